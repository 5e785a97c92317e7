"$GPT" data inspect --data "nowhere/*.bin"
