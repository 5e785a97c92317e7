# What must not change the losses: threads, recomputation. What may only change them a little: the micro batch,
# bf16. What must: dropout, the seed.
. "$ROOT/test/cli/tiny_run.inc"
run() {
    name=$1 && shift
    $GPT train --config config.json --set name="$name" train.eval_interval=0 train.checkpoint_interval=0 "$@" 2>/dev/null ||
        echo "failed: $name"
    losses "runs/$name"
}
# shellcheck disable=SC2094  # the first is a name, the second a file
run plain >plain
run threads train.threads=3 | cmp - plain && echo "threads: the same"
run block train.recompute=block | cmp - plain && echo "recompute: the same"
close() { paste -d ' ' plain - | awk -v t="$1" '{ d = $2 - $4; if (d < 0) d = -d; if (d > t * $2) bad = 1 } END { print bad ? "differs" : "close" }'; }
run micro train.micro_batch_size=4 | close 1e-6
run bf16 train.precision=bf16 | close 2e-3
run seed train.seed=5 | close 1e-4
run dropout model.resid_pdrop=0.2 | close 1e-4
run drop_block model.resid_pdrop=0.2 model.attn_pdrop=0.2 model.embd_pdrop=0.2 train.recompute=block >a
run drop_none model.resid_pdrop=0.2 model.attn_pdrop=0.2 model.embd_pdrop=0.2 train.micro_batch_size=4 >plain
close 1e-6 <a
for m in openai-gpt gpt3; do run $m model.model_type=$m model.attention_window=8 train.max_steps=30 optimizer.lr=1e-2 | awk 'NR == 1 { first = $2 } END { print $2 < first - 0.5 ? "learns" : "does not learn" }'; done
