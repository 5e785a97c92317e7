. "$ROOT/test/bad/tiny_model.inc"
{ le 4 20240520 && le 4 3 && head -c 2000 /dev/zero; } >m.bin
$GPT convert --model m.bin --to hf --out out
