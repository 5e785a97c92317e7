. "$ROOT/test/bad/tiny_model.inc"
config m && { tensors && echo "lm_head.weight [4,2] 32"; } | weights m
sed -i 's/}/, "tie_word_embeddings": false}/' m/config.json
$GPT convert --model m --to llmc --out m.bin
