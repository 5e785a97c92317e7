$GPT version --verbose
