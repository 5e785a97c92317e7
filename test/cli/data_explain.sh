# One document through every rule.
printf 'The cat sat on the mat and looked at the {dog}.\n\nfew words\nThat was all that there was to see.\n' >a.txt
"$GPT" data explain --input a.txt --set gopher.min_words=10
printf '{"text": "one"}\n{"text": 2}\n' >b.jsonl
"$GPT" data explain --input b.jsonl --documents 2 | grep -v pass
: >nothing.txt
"$GPT" data explain nothing.txt
"$GPT" data explain a.txt b.jsonl || echo "exit $?"
mkdir many && (cd many && awk 'BEGIN { for (i = 0; i < 5000; i++) print "x" >i ".txt" }')
"$GPT" data clean --input many/*.txt --out out 2>&1 | sed 's/; [0-9.]* MB.s//'
