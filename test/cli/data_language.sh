# Which language is a document in, and which ones are wanted?
awk 'BEGIN { split("the of and to in is that was for with house water green number people", w)
    for (i = 0; i < 400; i++) { s = ""; for (k = 0; k < 9; k++) s = s w[(i * 7 + k * k * 3) % 15 + 1] " "; print "{\"text\": \"" s i "\"}" } }' >en.jsonl
awk 'BEGIN { split("der die und das ist nicht mit von auf eine haus wasser gruen zahl leute", w)
    for (i = 0; i < 400; i++) { s = ""; for (k = 0; k < 9; k++) s = s w[(i * 7 + k * k * 3) % 15 + 1] " "; print "{\"text\": \"" s i "\"}" } }' >de.jsonl
"$GPT" data classifier train --label en=en.jsonl --label de=de.jsonl --chars 3 --buckets 16K --out l 2>/dev/null | sed -n 2p
echo 'The water is in the green house of the people, and that is good for all of them.' >a.txt
echo 'Das Wasser ist nicht auf der Zahl, und eine der Leute von das Haus ist mit und auf.' >b.txt
cat >c.json <<'J'
{"language": {"model": "l", "wanted": ["en"]}, "repetition": {"max_top_4": null, "max_top_3": null, "max_top_2": null}, "gopher": {"min_words": 5, "min_stop_words": null}, "lines": {"end_punctuation": false},
 "fineweb": {"max_newlines": null}, "c4": {"min_sentences": null}}
J
"$GPT" data clean --config c.json --input a.txt b.txt --out o 2>&1 | sed 's/; [0-9.]* MB.s//'
zcat o/*.jsonl.gz | grep -o '"reason.*"scores\|"language": [^,]*' | sed 's/"scores//'
grep -o '"languages".*' o/report.json
grep -c 'Languages of what reached the rules: en 1, de 1' o/report.html
"$GPT" data explain --config c.json --input b.txt --set language.wanted=de | grep -i language
"$GPT" data explain --config c.json --input b.txt | grep 'language.min_score' | sed 's/0\.[0-9]*/0.x/g; s/  *e*-*[0-9]*  */ /g'
"$GPT" data clean --config c.json --input a.txt --out p --set language.wanted=en,fr
"$GPT" data clean --config c.json --input a.txt --out p --set language.model=
