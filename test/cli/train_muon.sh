# Muon: on any number of threads the same; stopped and resumed, the same; its matrices have no second moment.
. "$ROOT/test/cli/tiny_run.inc"
run() { $GPT train --config config.json --set optimizer.name=muon "$@" 2>&1 | grep resumed; }
run name=whole
run name=parts train.max_steps=2 train.threads=3
run name=parts train.threads=2 --resume
losses runs/whole >whole && losses runs/parts >parts && cmp whole parts && wc -l <whole
last() { echo "runs/$1/checkpoints/step-00000006/$2.safetensors"; }
cmp "$(last whole model)" "$(last parts model)" && cmp "$(last whole optimizer)" "$(last parts optimizer)" && echo the same
for what in m.h.0.attn.c_attn.weight v.h.0.attn.c_attn.weight v.wte.weight; do
    head -c 10000 "$(last whole optimizer)" | grep -ac "\"$what\""
done
