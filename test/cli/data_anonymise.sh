# personal data out of a text and out of documents; what is found by kind in the set of invented data
cat >x.txt <<'END'
Write to john.doe@mail.example.co.uk or jd@host.org, call +44 20 7946 0018 or (415) 555-2671.
Card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, SSN 123-45-6789, from 81.2.69.142.
Version 4.12.7.13 of 2023-10-12 14:30:00, ISBN 978-3-16-148410-0, $1,234,567.89, 48.8566, 2.3522.
END
"$GPT" data anonymise --text <x.txt
echo "a secret of sixteen bytes or more" >secret
"$GPT" data anonymise --text --secret-file secret <x.txt >once.txt
cat once.txt
"$GPT" data anonymise --text --secret-file secret <once.txt >twice.txt
cmp once.txt twice.txt && echo "twice is once"
echo "--- documents: other fields and lines without a match stay as they are"
printf '{"id": 1e3, "text": "a\\u0062 jd@host.org", "t": ["x@y.org"]}\n{"text":"no\\u0062ody",  "n": 12345678901234567890}\n' >d.jsonl
"$GPT" data anonymise --input d.jsonl x.txt --out d --kinds email,phone
gzip -dc d/clean_000000.jsonl.gz d/clean_000001.jsonl.gz
cat d/report.json
echo "--- found, by kind, where that kind was planted; what was planted; in what only looks like it"
awk -F'\t' '{ n[$1] += gsub(/⟦/, "", $2); gsub(/⟧/, "", $2); print $2 >($1 ".txt") }
    END { for (k in n) print n[k] >(k ".planted") }' "$ROOT/test/golden/pii/positives.txt"
cut -f2- "$ROOT/test/golden/pii/negatives.txt" >negatives
for kind in *.planted; do
    kind=${kind%.planted}
    "$GPT" data anonymise --text --kinds "$kind" <"$kind.txt" 2>&1 >/dev/null | tr '\n' ' '
    echo "of $(cat "$kind.planted");" \
        "$("$GPT" data anonymise --text --kinds "$kind" <negatives 2>&1 >/dev/null)"
done
