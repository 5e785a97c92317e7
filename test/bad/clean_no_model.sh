# a limit for the scores of a model that is not named
echo text >a.txt
"$GPT" data clean --set models.min_score=0.5 --input a.txt --out o
