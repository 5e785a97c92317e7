echo '{"model": {"resid_pdrop": 1.5}}' >c.json
$GPT train --config c.json
