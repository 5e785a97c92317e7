#!/bin/sh
# Checks the direction of dependencies: a file includes headers only from floors below its own
# (or its own header). The floors are the table in this script; an unknown file is an error.
cd "$(dirname "$0")/.." || exit 1
floor() {
    case $1 in
    unicode_nfc) echo 0 ;;
    source) echo 1 ;;
    seen | html_none) echo 2 ;;
    clean | stats) echo 3 ;;
    curate | curate_config | curate_explain | report) echo 4 ;;
    util | trace | unicode | unicode_gpt1 | unicode_words) echo 0 ;;
    docs | words | keys | mixture | ops | ptx | cuda | attention | cpu | cpu_kernel | cpu_linear | cpu_attention) echo 1 ;;
    cuda_sizes) echo 1 ;; # of ops.h: what both gpt.cu and a plan without it need to know
    comm | comm_check | comm_mpi | comm_nccl | comm_watch | comm_wire) echo 1 ;;
    tokenizer | tokenizer_impl | tokenizer_files | tokenizer_train | tokenizer_gpt1 | dataloader | shard | config | safetensors | demo | demo_grammar | schedule) echo 2 ;;
    extsort) echo 1 ;;
    ngram | ngram_impl | ngram_train | classifier | classifier_impl | classifier_train | pii | rules | language | html | warc | normalise) echo 2 ;; # what curate.c asks
    gpt | params) echo 3 ;;
    optim | checkpoint | tensors | llmc | sample | heldout) echo 4 ;;
    cost) echo 4 ;; # what a step of training costs
    plan_text) echo 5 ;; # what plan.c finds, in words
    eval | plan | bench | mixing) echo 5 ;;
    train | perplexity) echo 6 ;;
    main) echo 7 ;;
    sets | team) echo 1 ;;
    minhash | stage | pii_impl | pii_ids | pii_fake) echo 2 ;;
    dedup | decontam | anonymise) echo 3 ;;
    *) echo unknown ;;
    esac
}
bad=0
for f in *.c *.h *.cu *.cuh; do
    room=${f%.*}
    [ "$f" = gpt.cu ] && room=cuda # not a part of gpt.c
    a=$(floor "$room")
    [ "$a" = unknown ] && echo "layers: $f has no floor; give it one in scripts/layers.sh" && bad=1 && continue
    [ "$room" = plan_text ] && room=plan # the other half of it
    # shellcheck disable=SC2013  # headers have no spaces in their names
    for inc in $(sed -n 's/^#include "\(.*\)\.h".*/\1/p' "$f"); do
        b=$(floor "$inc")
        [ "$inc" = "$room" ] && continue
        case "$room:$inc" in curate*:curate | curate:report | html*:html | html:normalise) continue ;; esac # one room, in parts
        # cpu.c implements ops.h, tokenizer.c and demo.c own their tables, shard.c is the writing half
        # of dataloader.h, tensors.c and llmc.c what is in checkpoint.c's folders: the same floor, but downward in meaning.
        case "$room:$inc" in cpu*:ops | cuda*:ops | cuda:cuda_sizes | ops:cuda_sizes | cpu_*:cpu | trace:util | params:gpt | gpt:params | comm*:ops | comm*:comm* | team:comm | comm_*:cpu | tokenizer*:tokenizer* | ngram*:ngram* | classifier*:classifier* | pii*:pii* | demo:demo_grammar | shard:dataloader | checkpoint:llmc | checkpoint:tensors | llmc:tensors) continue ;; esac
        if [ "$b" = unknown ] || [ "$b" -ge "$a" ]; then
            echo "layers: $f (floor $a) includes $inc.h (floor $b)"
            bad=1
        fi
    done
done
exit $bad
