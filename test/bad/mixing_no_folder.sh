. "$ROOT/test/cli/three_sources.inc"
rm -r b
"$GPT" train --config config.json --set name=m
