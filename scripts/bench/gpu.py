#!/usr/bin/env python3
"""Training speed on one GPU against PyTorch, in one run: whole steps of GPT-2, and attention alone.

    PYTHON scripts/bench/gpu.py [--models 124m,1558m] [--precisions bf16,fp8] [--rounds 3] [--seconds 20] [--no-peer 1558m]

PYTHON needs torch with CUDA and numpy. Ours is ./gpt train with configs/gpt2-MODEL.json on random tokens, a step of
0.5M tokens; the first step is not counted (it chooses algorithms). PyTorch is a plain GPT-2 as its users write it after
tuning: bf16 autocast, scaled_dot_product_attention, torch.compile, fused AdamW, TF32 for what stays fp32, the same
micro batch, accumulation and clipping. Rounds alternate; each round is a fresh process of ours and a stretch of the
peer's, which waits between rounds with its memory freed where it fits. Ratios are taken within a round, then medians.

MFU is 6N + 6LCT over the GPU's published dense bf16 peak (989 TFLOP/s on an H100 or H200). Attention is causal, bf16:
3.5 times the forward pass's FLOPs for both passes, of the causal half (as FlashAttention counts); ours is what
`gpt bench --device cuda` prints, the peer's is scaled_dot_product_attention with the backend that PyTorch chooses.

--device cpu with --models tiny runs the same lines without a GPU, to test this script.
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile, time

import torch_gpt2

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SHAPES = {"tiny": (2, 64, 2, 128, 4, 2), "124m": (12, 768, 12, 1024, 32, 16), "355m": (24, 1024, 16, 1024, 16, 32),
          "774m": (36, 1280, 20, 1024, 16, 32), "1558m": (48, 1600, 25, 1024, 16, 32)}  # L, C, NH, T, B, micro steps
V = 50304


def flops_per_token(model):
    L, C, _, T, _, _ = SHAPES[model]
    return 6 * (12 * L * C * C + V * C) + 6 * L * C * T


def ours(gpt, work, model, precision, device, seconds):
    """Median tokens/s of steps 2 to the last; about `seconds` of them."""
    L, C, NH, T, B, micro = SHAPES[model]
    out = os.path.join(work, "run")
    shutil.rmtree(out, ignore_errors=True)
    config = os.path.join(ROOT, f"configs/gpt2-{'124m' if model == 'tiny' else model}.json")
    sets = [f"out={out}", "tokenizer=", f"data.train={work}/tokens.bin", "data.val=[]", "model.vocab_size=50257",
            f"model.n_layer={L}", f"model.n_embd={C}", f"model.n_head={NH}", f"train.device={device}",
            f"train.global_batch_size={B * micro}", f"train.micro_batch_size={B}", f"train.seq_len={T}",
            f"train.precision={precision}", "train.eval_interval=0", "train.sample_interval=0",
            "train.checkpoint_interval=0", "train.max_steps=1000000", "lr_schedule.warmup_steps=10",
            "train.recompute=" + ("gelu" if model == "1558m" else "none")]
    p = subprocess.Popen([gpt, "train", "--config", config, "--set", *sets], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
    metrics, start = os.path.join(out, "metrics.jsonl"), None
    while p.poll() is None:
        time.sleep(0.2)
        lines = open(metrics).read().count("\n") if os.path.exists(metrics) else 0
        if lines >= 2 and start is None:
            start = time.time()
        if start and lines >= 4 and time.time() - start > seconds:
            p.kill()  # not asked to save: nothing here is kept
            break
    log = p.communicate()[1]
    if start is None:
        sys.exit(f"gpt train: status {p.returncode}\n{log[-2000:]}")
    rows = [json.loads(x) for x in open(metrics) if x.endswith("}\n")][2:]
    shutil.rmtree(out)
    return statistics.median(r["tokens_per_second"] for r in rows)


class Peer:
    """PyTorch's process: warm when __init__ returns, then one line in, one measurement out."""

    def __init__(self, what, a):
        cmd = [sys.executable, os.path.abspath(__file__), "--peer", what, "--device", a.device, "--seconds", str(a.seconds)]
        self.process = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"{' '.join(cmd)}: did not start")

    def measure(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def peer_model(model, device):
    import torch
    L, C, NH, T, B, micro = SHAPES[model]
    torch.set_float32_matmul_precision("high")
    net, opt = torch_gpt2.make(L, C, NH, V, T, device)
    run = torch.compile(net)
    idx = torch.randint(50257, (micro, B, T + 1)).to(device)

    def step():
        for i in range(micro):
            with torch.autocast(device, torch.bfloat16):
                loss = run(idx[i, :, :-1], idx[i, :, 1:])
            (loss / micro).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)

    return step, B * T * micro, lambda: torch.cuda.synchronize() if device == "cuda" else None, torch.__version__


def peer_attention(B, T, NH, HS, device):
    import torch
    import torch.nn.functional as F
    q, k, v = (torch.randn(B, NH, T, HS, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    grad = torch.randn(B, NH, T, HS, device=device, dtype=torch.bfloat16)

    def step():
        F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(grad)

    return step, 3.5 * 2 * B * NH * T * T * HS, lambda: torch.cuda.synchronize() if device == "cuda" else None, torch.__version__


def peer_main(a):
    if a.peer.startswith("attention"):
        step, work, wait, version = peer_attention(*map(int, a.peer.split(":")[1].split("x")), a.device)
    else:
        step, work, wait, version = peer_model(a.peer, a.device)
    for _ in range(3):
        step()
    wait()
    print("ready", flush=True)
    for _ in sys.stdin:
        rates, start = [], time.time()
        while len(rates) < 3 or time.time() - start < a.seconds:
            n = 1 if work < 1e8 else 20  # a step of training; many calls of attention
            t = time.time()
            for _ in range(n):
                step()
            wait()
            rates.append(n * work / (time.time() - t))
        print(json.dumps({"rate": statistics.median(rates), "version": version}), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--gpt", default=os.path.join(ROOT, "gpt"))
    ap.add_argument("--models", default="124m")
    ap.add_argument("--precisions", default="bf16")
    ap.add_argument("--no-peer", default="", help="models that PyTorch is not run on")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=10, help="about so long a measurement")
    ap.add_argument("--attention", default="16x1024x12x64,4x4096x12x64", help="B x T x heads x head size; empty: none")
    ap.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    ap.add_argument("--peer", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.peer:
        return peer_main(a)
    for shape in filter(None, a.attention.split(",")):
        peer = Peer("attention:" + shape, a)
        r = peer.measure()
        peer.stop()
        print(f"attention {shape}, forward and backward: PyTorch {r['version']} {r['rate'] / 1e12:.3g} TFLOP/s", flush=True)
    with tempfile.TemporaryDirectory() as work:
        torch_gpt2.write_tokens(os.path.join(work, "tokens.bin"), 1 << 23)
        for model in filter(None, a.models.split(",")):
            compare(work, model, a)


def compare(work, model, a):
    precisions, rows = a.precisions.split(","), []
    peer = None if model in a.no_peer.split(",") else Peer(model, a)
    version = ""
    for _ in range(a.rounds):
        row = {p: ours(a.gpt, work, model, p, a.device, a.seconds) for p in precisions}
        if peer:
            r = peer.measure()
            row["peer"], version = r["rate"], r["version"]
        rows.append(row)
    if peer:
        peer.stop()
    for p in precisions:
        rate = statistics.median(r[p] for r in rows)
        line = f"train {model} {p}: {rate:.0f} tokens/s, MFU {100 * rate * flops_per_token(model) / 989.4e12:.1f} % of 989 TFLOP/s"
        if peer:
            ratio = [r[p] / r["peer"] for r in rows]
            line += (f", {statistics.median(ratio):.2f} times PyTorch {version} compiled "
                     f"({min(ratio):.2f} to {max(ratio):.2f}; {statistics.median(r['peer'] for r in rows):.0f} tokens/s)")
        if p != precisions[0]:
            line += f", {statistics.median(r[p] / r[precisions[0]] for r in rows):.2f} times our {precisions[0]}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
