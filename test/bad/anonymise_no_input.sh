# neither files nor --text
"$GPT" data anonymise --out d
