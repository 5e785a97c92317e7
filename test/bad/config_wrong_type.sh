echo '{"train": {"max_steps": "many"}}' >c.json
$GPT train --config c.json
