#!/usr/bin/env python3
"""Print the tables of test_files.c: single weights, dequantised by the gguf package.

Usage: spot_values.py DIR, with the three files of tests/model/golden/SHA256SUMS in DIR.
"""
import pathlib
import sys

import gguf
import numpy as np

ROWS = {
    "smollm2-135m-instruct-q4_1.gguf": [
        ("token_embd.weight", 0), ("token_embd.weight", 49151), ("blk.0.attn_q.weight", 1),
        ("blk.0.attn_q.weight", 575), ("blk.7.attn_k.weight", 130), ("blk.29.attn_v.weight", 191),
        ("blk.12.attn_output.weight", 300), ("blk.3.ffn_gate.weight", 1535),
        ("blk.3.ffn_up.weight", 16), ("blk.29.ffn_down.weight", 575),
        ("blk.5.attn_norm.weight", 0), ("output_norm.weight", 0)],
    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": [
        ("token_embd.weight", 151935), ("output.weight", 151935), ("blk.0.attn_q.weight", 1),
        ("blk.23.attn_k.weight", 127), ("blk.2.attn_v.weight", 64),
        ("blk.11.attn_output.weight", 895), ("blk.10.ffn_gate.weight", 4863),
        ("blk.0.ffn_down.weight", 17), ("blk.5.ffn_down.weight", 800),
        ("blk.0.attn_k.bias", 0), ("blk.4.ffn_norm.weight", 0)],
    "gemma3-270m-q4_k_m.gguf": [
        ("token_embd.weight", 262143), ("token_embd.weight", 2), ("blk.0.attn_q.weight", 1023),
        ("blk.17.attn_k.weight", 255), ("blk.9.attn_v.weight", 3),
        ("blk.1.attn_output.weight", 639), ("blk.16.ffn_down.weight", 100),
        ("blk.0.ffn_down.weight", 101), ("blk.6.ffn_up.weight", 2047),
        ("blk.5.attn_q_norm.weight", 0), ("blk.5.post_ffw_norm.weight", 0)],
}


def main() -> None:
    for file, rows in ROWS.items():
        reader = gguf.GGUFReader(pathlib.Path(sys.argv[1]) / file)
        tensors = {t.name: t for t in reader.tensors}
        print(f'    /* {file}: {len(reader.tensors)} tensors */')
        for name, row in rows:
            t = tensors[name]
            w = gguf.quants.dequantize(t.data, t.tensor_type)
            w = (w if w.ndim == 2 else w[None])[row].astype(np.float32)
            spots = ", ".join(f"{float(w[i]):.9g}" for i in (0, 1, len(w) // 2, len(w) - 1))
            total = float(np.abs(w.astype(np.float64)).sum())
            print(f'    {{"{name}", {row}, {{{spots}}}, {total:.12g}}},')


if __name__ == "__main__":
    main()
