"$GPT" train --config "$ROOT/configs/shakespeare.json" --set data.mixing=dorémi
