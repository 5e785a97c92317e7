# a kind that there is not
echo "a" | "$GPT" data anonymise --text --kinds email,fone
