. "$ROOT/test/cli/three_sources.inc"
mix static name=static train.max_steps=1 model.vocab_size=304
"$GPT" train --config config.json --set name=m data.mixing=doremi
