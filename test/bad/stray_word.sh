$GPT version now
