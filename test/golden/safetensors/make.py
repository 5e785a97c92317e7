"""Writes mixed.safetensors with the reference library: every dtype that we read, a scalar, an empty tensor, names
and metadata beyond ASCII. Run it in this folder; test_safetensors.c knows the values.
Made with safetensors 0.8.0 and torch 2.15.0."""

import torch
from safetensors.torch import save_file

x = torch.tensor([[0.0, -1.5, 3.0], [1e-3, 65504.0, -2.0**-24]])
save_file(
    {
        "f32": x,
        "f16": x.half(),
        "bf16": x.bfloat16(),
        "f64": x.double(),
        "i64": torch.tensor([-(2**62), 7]),
        "i32": torch.tensor([-5], dtype=torch.int32),
        "i16": torch.tensor([-6], dtype=torch.int16),
        "i8": torch.tensor([-7, 8, 9], dtype=torch.int8),
        "u8": torch.tensor([255], dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        'a "quoted" näme': torch.ones(1),
    },
    "mixed.safetensors",
    metadata={"format": "pt", "ключ": "a\nb"},
)
