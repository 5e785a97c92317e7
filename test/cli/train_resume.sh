. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set name=whole 2>/dev/null
$GPT train --config config.json --set name=parts train.max_steps=2 2>/dev/null
echo '{"step": 3, "loss": 1, a broken li' >>runs/parts/metrics.jsonl # as a crash leaves it
$GPT train --config config.json --set name=parts train.max_steps=4 --resume 2>&1 | grep resumed
# A damaged newest checkpoint is passed over: step 4 is done again from step 2.
truncate -s -1 runs/parts/checkpoints/step-00000004/model.safetensors
$GPT train --config config.json --set name=parts --resume 2>&1 | grep -E 'damaged|resumed'
losses runs/whole >whole && losses runs/parts >parts && cmp whole parts && wc -l <whole
cmp runs/whole/checkpoints/step-00000006/model.safetensors runs/parts/checkpoints/step-00000006/model.safetensors
ls runs/parts/checkpoints && cat runs/parts/latest
$GPT train --config config.json --set name=fresh train.max_steps=1 --resume 2>&1 | grep 'no complete'
$GPT train --config config.json --set name=parts train.max_steps=1 --overwrite 2>/dev/null && losses runs/parts | wc -l
