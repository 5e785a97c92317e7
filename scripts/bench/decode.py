#!/usr/bin/env python3
"""Decoding speed of GPT-2 124M at batch 1, and prefill of 512 tokens, against llama.cpp and this machine's memory.

    PYTHON scripts/bench/decode.py [--rounds 5] [--threads 2] [--tokens 128] [--prompt 512] [--keep DIR]

PYTHON needs numpy, gguf and llama-cpp-python. The weights are random; the same ones go into a Hugging Face folder for
us and into a GGUF file for llama.cpp (F16, as its converter writes it: norms, biases and positions stay F32). Ours
run in bf16, and in fp32 for a row of its own. Each round takes a fresh process of each program, one after the other,
with a probe of the memory's read rate before and after each decoding: two threads that sum up a gigabyte again and
again for about a second. That rate drifts within seconds (the machine's other guests), so a run is compared with the
mean of the two probes around it.

Decoding reads every matrix once a token, so its limit is the memory: "of DRAM" is (bytes of the matrices and of the
keys and values read) x tokens/s over the probed rate. llama.cpp gets a warm-up pass before its timed ones, ours does
not. All figures are medians over the rounds; ratios are taken within a round first.
"""
import argparse, json, os, shutil, statistics, struct, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
L, C, NH, V, T = 12, 768, 12, 50257, 1024

PROBE = r"""
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <omp.h>
int main(int argc, char **argv) {
    size_t n = (size_t)1 << 27; /* words of 8 bytes */
    uint64_t *x = mmap(NULL, n * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), total = 0;
    double passes = 0, seconds = 0;
    omp_set_num_threads(argc > 1 ? atoi(argv[1]) : 2);
    madvise(x, n * 8, MADV_HUGEPAGE);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) x[i] = i;
    while (seconds < 0.7) {
        double t = omp_get_wtime();
#pragma omp parallel for simd schedule(static) reduction(+ : total)
        for (size_t i = 0; i < n; i++) total += x[i];
        t = omp_get_wtime() - t;
        passes++, seconds += t;
    }
    printf("%.6g %llu\n", n * 8 * passes / seconds, (unsigned long long)total);
    return 0;
}
"""


def tensors():
    """Hugging Face name, GGUF name, shape, in the file's order."""
    yield "wte.weight", "token_embd.weight", (V, C)
    yield "wpe.weight", "position_embd.weight", (T, C)
    for i in range(L):
        a, b = f"h.{i}.", f"blk.{i}."
        yield a + "ln_1.weight", b + "attn_norm.weight", (C,)
        yield a + "ln_1.bias", b + "attn_norm.bias", (C,)
        yield a + "attn.c_attn.weight", b + "attn_qkv.weight", (C, 3 * C)
        yield a + "attn.c_attn.bias", b + "attn_qkv.bias", (3 * C,)
        yield a + "attn.c_proj.weight", b + "attn_output.weight", (C, C)
        yield a + "attn.c_proj.bias", b + "attn_output.bias", (C,)
        yield a + "ln_2.weight", b + "ffn_norm.weight", (C,)
        yield a + "ln_2.bias", b + "ffn_norm.bias", (C,)
        yield a + "mlp.c_fc.weight", b + "ffn_up.weight", (C, 4 * C)
        yield a + "mlp.c_fc.bias", b + "ffn_up.bias", (4 * C,)
        yield a + "mlp.c_proj.weight", b + "ffn_down.weight", (4 * C, C)
        yield a + "mlp.c_proj.bias", b + "ffn_down.bias", (C,)
    yield "ln_f.weight", "output_norm.weight", (C,)
    yield "ln_f.bias", "output_norm.bias", (C,)


def vocabulary():
    """A byte-level vocabulary of GPT-2's size whose merges are pairs of bytes, space and letter first."""
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in printable]
    char = {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}
    order = [32] + printable + [b for b in rest if b != 32]
    merges = [(char[a], char[b]) for a in order for b in order][:V - 257]
    tokens = [char[b] for b in printable + rest] + [a + b for a, b in merges] + ["<|endoftext|>"]
    return tokens, merges


def write_models(folder):
    import gguf, numpy as np
    hf, (tokens, merges) = os.path.join(folder, "model"), vocabulary()
    os.makedirs(hf)
    with open(os.path.join(hf, "config.json"), "w") as f:
        json.dump({"model_type": "gpt2", "vocab_size": V, "n_positions": T, "n_ctx": T, "n_embd": C, "n_layer": L,
                   "n_head": NH, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}, f)
    with open(os.path.join(hf, "vocab.json"), "w") as f:
        json.dump({t: i for i, t in enumerate(tokens)}, f)
    with open(os.path.join(hf, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))

    g = gguf.GGUFWriter(os.path.join(folder, "model.gguf"), "gpt2")
    g.add_context_length(T), g.add_embedding_length(C), g.add_block_count(L), g.add_feed_forward_length(4 * C)
    g.add_head_count(NH), g.add_layer_norm_eps(1e-5), g.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    g.add_tokenizer_model("gpt2"), g.add_tokenizer_pre("gpt-2"), g.add_token_list(tokens)
    g.add_token_types([gguf.TokenType.NORMAL] * (V - 1) + [gguf.TokenType.CONTROL])
    g.add_token_merges([f"{a} {b}" for a, b in merges])
    g.add_bos_token_id(V - 1), g.add_eos_token_id(V - 1)

    rng, header, at = np.random.default_rng(1), {}, 0
    for name, _, shape in tensors():
        n = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    head = json.dumps(header).encode()
    with open(os.path.join(hf, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for name, other, shape in tensors():
            x = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            if name.endswith("weight") and len(shape) == 1:
                x += 1
            f.write(x.tobytes())
            if ".c_" in name and len(shape) == 2:
                x = np.ascontiguousarray(x.T)  # Conv1D's [in, out]; GGUF wants [out, in]
            g.add_tensor(other, x.astype(np.float16) if len(shape) == 2 and name != "wpe.weight" else x)
    g.write_header_to_file(), g.write_kv_data_to_file(), g.write_tensors_to_file(), g.close()


def prompt(n):
    """A text of n tokens: each letter with the space before it is one."""
    return "".join(" " + chr(97 + i * i % 26) for i in range(n))


def run(cmd):
    p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if p.returncode:
        sys.exit(f"{' '.join(cmd[:6])}: status {p.returncode}\n{p.stderr[-2000:]}")
    return p


def ours(folder, precision, n_prompt, n_tokens, threads):
    """Tokens per second of the prompt and of decoding."""
    log = run([os.path.join(ROOT, "gpt"), "sample", "--model", os.path.join(folder, "model"),
               "--prompt", prompt(n_prompt), "--max-tokens", str(n_tokens + 1), "--temperature", "0", "--ignore-eot",
               "--stats", "--precision", precision, "--threads", str(threads)]).stderr
    rate = {x.split()[1]: x.split() for x in log.splitlines() if x.endswith("tokens/s")}
    assert int(rate["prompt:"][2]) == n_prompt and int(rate["decode:"][2]) == n_tokens, log
    return float(rate["prompt:"][-2]), float(rate["decode:"][-2])


def peer(folder, n_prompt, n_tokens, threads):
    cmd = [sys.executable, os.path.abspath(__file__), "--peer", folder, "--prompt", str(n_prompt),
           "--tokens", str(n_tokens), "--threads", str(threads)]
    return json.loads(run(cmd).stdout.splitlines()[-1])


def run_peer(folder, n_prompt, n_tokens, threads):
    """llama.cpp by its C interface: no Python between the tokens but one call each."""
    import ctypes
    import llama_cpp as ll
    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    ll.llama_backend_init()
    path = os.path.join(folder, "model.gguf").encode()
    model = ll.llama_model_load_from_file(path, ll.llama_model_default_params())
    p = ll.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_ubatch, p.n_threads, p.n_threads_batch = T, 512, 512, threads, threads
    ctx = ll.llama_init_from_model(model, p)
    letters = {t: i for i, t in enumerate(vocabulary()[0])}
    ids = [letters["\u0120" + chr(97 + i * i % 26)] for i in range(n_prompt)]

    def feed(tokens):
        a = (ll.llama_token * len(tokens))(*tokens)
        if ll.llama_decode(ctx, ll.llama_batch_get_one(a, len(tokens))) != 0:
            sys.exit("llama_decode failed")
        x = ll.llama_get_logits_ith(ctx, -1)
        return ctypes.cast(x, ctypes.POINTER(ctypes.c_float))

    def greedy(x):
        import numpy as np
        return int(np.argmax(np.ctypeslib.as_array(x, (V,))))

    for _ in range(2):  # the first to warm up
        ll.llama_memory_clear(ll.llama_get_memory(ctx), True)
        t0 = time.perf_counter()
        token = greedy(feed(ids))
        t1 = time.perf_counter()
        for _ in range(n_tokens):
            token = greedy(feed([token]))
        t2 = time.perf_counter()
    print(json.dumps([n_prompt / (t1 - t0), n_tokens / (t2 - t1)]))


def bytes_per_token(width, n_prompt, n_tokens):
    matrices = L * 12 * C * C + V * C
    return width * (matrices + 2 * L * C * (n_prompt + n_tokens / 2))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--keep", help="make the models here, or use those that are here already")
    p.add_argument("--peer", help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.peer:
        return run_peer(o.peer, o.prompt, o.tokens, o.threads)
    folder = o.keep or tempfile.mkdtemp(prefix="gpt-bench-")
    os.makedirs(folder, exist_ok=True)
    if not os.path.exists(os.path.join(folder, "model.gguf")):
        write_models(folder)
    probe = os.path.join(folder, "probe")
    with open(probe + ".c", "w") as f:
        f.write(PROBE)
    run([os.environ.get("CC", "cc"), "-O3", "-march=native", "-fopenmp", probe + ".c", "-o", probe])

    def dram():
        return float(run([probe, str(o.threads)]).stdout.split()[0])

    width = {"bf16": 2, "llama": 2, "fp32": 4}
    short, rows = 16, []
    for i in range(o.rounds):
        decode = {"bf16": lambda: ours(folder, "bf16", short, o.tokens, o.threads)[1],
                  "llama": lambda: peer(folder, short, o.tokens, o.threads)[1],
                  "fp32": lambda: ours(folder, "fp32", short, o.tokens, o.threads)[1]}
        before, r, share = dram(), {}, {}
        for k in decode:
            r[k], after = decode[k](), dram()
            share[k], before = r[k] * bytes_per_token(width[k], short, o.tokens) / ((before + after) / 2), after
        r["bf16 prefill"] = ours(folder, "bf16", o.prompt, 1, o.threads)[0]
        r["llama prefill"] = peer(folder, o.prompt, 1, o.threads)[0]
        r["fp32 prefill"] = ours(folder, "fp32", o.prompt, 1, o.threads)[0]
        rows.append({**r, "share": share})
        print(f"round {i + 1}: DRAM {after / 1e9:.1f} GB/s" + "".join(
            f"; {k} {r[k]:.1f}" + (f" ({share[k]:.0%})" if k in share else "") for k in r), file=sys.stderr)
    if not o.keep:
        shutil.rmtree(folder)

    def median(f):
        return statistics.median(f(r) for r in rows)

    name = {"bf16": "gpt bf16", "llama": "llama.cpp F16", "fp32": "gpt fp32"}
    print(f"GPT-2 124M, {o.threads} threads, {o.rounds} rounds")
    print(f"| | decode, tokens/s | of DRAM | to llama.cpp | prefill of {o.prompt}, tokens/s | to llama.cpp |")
    print("|---|---|---|---|---|---|")
    for k in ["bf16", "fp32", "llama"]:
        print(f"| {name[k]} | {median(lambda r: r[k]):.1f} | {median(lambda r: r['share'][k]):.0%} "
              f"| {median(lambda r: r[k] / r['llama']):.2f} | {median(lambda r: r[k + ' prefill']):.0f} "
              f"| {median(lambda r: r[k + ' prefill'] / r['llama prefill']):.2f} |")


if __name__ == "__main__":
    main()
