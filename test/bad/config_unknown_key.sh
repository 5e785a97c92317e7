echo '{"model": {"n_layers": 2}}' >c.json
$GPT train --config c.json
