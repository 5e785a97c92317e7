mkdir t
$GPT tokenizer encode --tokenizer t
