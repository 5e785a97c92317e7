printf '{\n"name": "x",\n oops' >c.json
$GPT train --config c.json
