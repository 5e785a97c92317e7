echo '{"lr_schedule": {"name": "cosin"}}' >c.json
$GPT train --config c.json
