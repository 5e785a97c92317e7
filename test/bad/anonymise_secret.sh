# a secret that could be guessed
echo "a" >secret
echo "a" | "$GPT" data anonymise --text --secret-file secret
