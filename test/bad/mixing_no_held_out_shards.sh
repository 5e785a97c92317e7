. "$ROOT/test/cli/three_sources.inc"
rm b/val*
"$GPT" train --config config.json --set name=m data.mixing=validation
