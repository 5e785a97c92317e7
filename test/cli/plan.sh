for gpus in 1024 3072; do $GPT plan --config "$ROOT/configs/gpt3-175b.json" --gpus $gpus --gpu h100 --price 2; done
echo
# As it stands, and as JSON says the same.
$GPT plan --config "$ROOT/configs/gpt2-124m.json" --gpus 8 --gpu h100 --tokens 10G
$GPT plan --config "$ROOT/configs/gpt2-124m.json" --gpus 8 --gpu h100 --json --set parallel.zero=1 |
    sed 's/.*"as_it_stands": {\("data": 8[^}]*all": [0-9]*}\).*"set": "\(.*\)"}/\1\n\2/'
