$GPT train --config none.json
