printf '{"name": "caf\351"}' >config.json
$GPT train --config config.json
