# What an n-gram model says of a text in clean and explain: how well it goes together, and how rare its words are.
for i in 1 2 3 4 5 6 7 8; do echo "The ship $i sails over the wide sea, and the wind takes the ship to a far shore."; done >learn.txt
"$GPT" data lm train --input learn.txt --out lm --order 3 >/dev/null 2>&1
sentence() { for i in 1 2 3 4 5 6 7; do echo "$1"; done; }
off='--set models.ngram=lm --set gopher.min_words=5 --set lines.clean=false'
for rule in repetition.max_lines repetition.max_line_chars fineweb.max_duplicate_chars repetition.max_top_2 repetition.max_top_3 \
    repetition.max_top_4 repetition.max_dup_5 repetition.max_dup_6 repetition.max_dup_7 repetition.max_dup_8 repetition.max_dup_9 \
    repetition.max_dup_10 gopher.min_stop_words repetition.max_paragraphs repetition.max_paragraph_chars; do
    off="$off --set $rule=null"
done
sentence 'The wind takes the ship to the sea.' >usual.txt # its words, in its order
sentence 'Sea the to ship the takes wind the.' >garbled.txt # its words
sentence 'The wind takes the hovercraft to Ulan Bator.' >rare.txt
for limit in models.max_rarity=25 models.max_perplexity=25; do
    echo "== $limit"
    for f in usual garbled rare; do
        # shellcheck disable=SC2086
        "$GPT" data explain $off --set $limit --input $f.txt | grep "$(echo $limit | sed 's/=.*//') \|verdict"
    done
done
