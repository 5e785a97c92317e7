"""What the training benchmarks share: a GPT-2 as PyTorch's users write it, and random tokens for both sides."""


def make(L, C, NH, V, T, device="cpu"):
    """The model and its optimizer: fused AdamW, decay on matrices only."""
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
            self.qkv, self.proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
            self.fc, self.out = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

        def forward(self, x):
            b, t, _ = x.shape
            q, k, v = (s.view(b, t, NH, C // NH).transpose(1, 2) for s in self.qkv(self.ln_1(x)).split(C, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).reshape(b, t, C))
            return x + self.out(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C)
            self.h = nn.Sequential(*(Block() for _ in range(L)))
            self.ln_f = nn.LayerNorm(C)
            for p in self.parameters():
                if p.dim() > 1:
                    nn.init.normal_(p, std=0.02)

        def forward(self, idx, targets):
            x = self.h(self.wte(idx) + self.wpe.weight[: idx.shape[1]])
            logits = F.linear(self.ln_f(x), self.wte.weight)
            return F.cross_entropy(logits.view(-1, V).float(), targets.reshape(-1))

    model = Model().to(device)
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=True)


def write_tokens(path, n):
    """A shard of n random tokens of GPT-2's."""
    import numpy as np
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, n
    with open(path, "wb") as f:
        f.write(header.tobytes() + np.random.default_rng(0).integers(0, 50257, n).astype("<u2").tobytes())
