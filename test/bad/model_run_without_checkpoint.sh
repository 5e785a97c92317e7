mkdir -p m/checkpoints/step-00000010.tmp
$GPT convert --model m --to hf --out out
