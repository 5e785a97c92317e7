# scripts/get_data.sh with a curl that serves files from a folder: plans, goes on after an interruption, verifies
"$ROOT/scripts/get_data.sh" --dry-run --shards 2 --out d shakespeare gpt2-vocab hellaswag fineweb10B

mkdir bin served
cat >bin/curl <<'END'
#!/bin/sh
# curl -fL ... -C - -o FILE URL: appends what FILE lacks; the first time, only half of it
while [ "$1" != -o ]; do shift; done
from=served/${3##*/}
[ -f "$from" ] || { echo "curl: no $from"; exit 22; }
[ -f "$2" ] || : >"$2"
have=$(wc -c <"$2")
[ "$have" -gt 0 ] || { head -c 600 "$from" >"$2" && echo "curl: connection lost" && exit 56; }
tail -c +$((have + 1)) "$from" >>"$2"
END
chmod +x bin/curl
PATH=$PWD/bin:$PATH
echo "--- not the right text"
yes text | head -n 1000 >served/input.txt
"$ROOT/scripts/get_data.sh" --out d shakespeare
"$ROOT/scripts/get_data.sh" --out d shakespeare
ls d
echo "--- shards"
awk 'BEGIN { for (i = 0; i < 300; i++) print "one two three", i % 100 }' >x.txt
"$GPT" tokenizer train --input x.txt --vocab-size 270 --out tok >/dev/null 2>&1
"$GPT" data shard --input x.txt --tokenizer tok --out s >/dev/null 2>&1
cp s/train_000000.bin served/fineweb_train_000001.bin
cp s/train_000000.bin served/fineweb_val_000000.bin
for attempt in 1 2 3 4; do
    echo "--- attempt $attempt"
    "$ROOT/scripts/get_data.sh" --out d --shards 1 fineweb10B
done
cmp s/train_000000.bin d/fineweb10B/fineweb_train_000001.bin
echo "--- damaged since"
printf x | dd of=d/fineweb10B/fineweb_val_000000.bin bs=1 seek=1500 conv=notrunc 2>/dev/null
"$ROOT/scripts/get_data.sh" --out d --shards 1 fineweb10B
"$ROOT/scripts/get_data.sh" --shards 104 fineweb10B
"$ROOT/scripts/get_data.sh" imagenet
