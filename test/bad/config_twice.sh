echo '{"name": "a", "name": "b"}' >c.json
$GPT train --config c.json
