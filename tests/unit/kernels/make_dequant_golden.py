#!/usr/bin/env python3
"""Write dequant_golden.h: random GGUF blocks of every type and what the Python package gguf makes
of them. Usage: make_dequant_golden.py > dequant_golden.h (needs gguf and numpy).
"""
import importlib.metadata

import gguf
import numpy as np

TYPES = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
         "Q6_K", "IQ4_NL"]
# Byte offsets of the f16 scales of a block.
SCALES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q2_K": [80, 82],
          "Q3_K": [108], "Q6_K": [208]}


def block(rng, name, n_bytes):
    raw = rng.integers(0, 256, n_bytes, dtype=np.uint8)
    if name not in ("F16", "BF16"):
        for at in SCALES.get(name, [0]):
            raw[at:at + 2] = np.frombuffer(np.float16(rng.normal() / 16).tobytes(), np.uint8)
    return raw


def rows(values, form, per_line):
    for i in range(0, len(values), per_line):
        yield "        " + ", ".join(form % v for v in values[i:i + per_line]) + ","


def main():
    rng = np.random.default_rng(20261124)
    print("/* Made by make_dequant_golden.py with gguf %s, numpy %s, not by hand. Each entry is"
          % (importlib.metadata.version("gguf"), np.__version__))
    print(" * the bytes of some GGUF blocks and the bits of what gguf.quants.dequantize gives. */")
    print("/* clang-format off */")
    print("static const struct {\n    enum ingle_wtype type;\n    uint32_t cols;\n"
          "    uint8_t bytes[256];\n    uint32_t bits[256];\n} dequant_golden[] = {")
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        size, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        n = max(1, 64 // size)
        raw = np.concatenate([block(rng, name, n_bytes) for _ in range(n)])
        if name in ("F16", "BF16"):  # finite: clear the top exponent bit
            raw[1::2] &= 0xbf
        values = gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(-1)
        assert len(values) == n * size and np.isfinite(values).all()
        print("    {INGLE_W_%s, %d, {" % (name, n * size))
        print("\n".join(rows(raw, "0x%02x", 15)))
        print("    }, {")
        print("\n".join(rows(values.view(np.uint32), "0x%08x", 7)))
        print("    }},")
    print("};")


if __name__ == "__main__":
    main()
