mkdir c.json
$GPT train --config c.json
