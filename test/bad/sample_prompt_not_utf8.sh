. "$ROOT/test/cli/trained_model.inc"
printf "caf\351" >latin1.txt
$GPT sample --model run --prompt-file latin1.txt
