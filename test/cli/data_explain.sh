# One document through every rule.
printf 'The cat sat on the mat and looked at the {dog}.\n\nfew words\nThat was all that there was to see.\n' >a.txt
"$GPT" data explain --input a.txt --set gopher.min_words=10
printf '{"text": "one"}\n{"text": 2}\n' >b.jsonl
"$GPT" data explain --input b.jsonl --documents 2 | grep -v pass
: >nothing.txt
"$GPT" data explain --input nothing.txt
