#!/usr/bin/env python3
"""RSS + shm of the runtime <= model bytes x 1.15 + KV budget + 64 MiB, by smaps, once all KV pages
have their memory, which takes a few seconds; `ingle ps` names every pool.
Usage: resident_bytes.py INGLED INGLE"""
import os
import re
import sys
import time

import running

MODELS = ["smollm2-135m-instruct-q4_1.gguf", "gemma3-270m-q4_k_m.gguf"]
MIB = 1 << 20


def resident(pid):
    """Bytes of RSS, shared mappings included once, from smaps."""
    text = open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace").read()
    return sum(int(kib) for kib in re.findall(r"^Rss:\s+(\d+) kB", text, re.M)) * 1024


def main():
    for name in MODELS:
        model = running.model_path(name)
        with running.runtime(sys.argv[1], sys.argv[2]) as r:
            r.ingle("run", "-m", model, "-n", "16", "--raw", "word " * 1500)
            pools = r.ps()["memory"]["pools"]
            kv = sum(p["bytes"] for p in pools if p["name"] == "kv")
            model_bytes = os.path.getsize(model)
            deadline = time.monotonic() + 120
            while resident(r.process.pid) < kv + 0.9 * model_bytes:
                assert time.monotonic() < deadline, "KV pages did not get their memory"
                time.sleep(0.1)
            used = resident(r.process.pid)
            limit = model_bytes * 1.15 + kv + 64 * MIB
            listed = sum(p["bytes"] for p in pools)
            print(f"{name}: resident {used / MIB:.1f} MiB, limit {limit / MIB:.1f} MiB (model "
                  f"{model_bytes / MIB:.1f}, kv budget {kv / MIB:.1f}), ledger {listed / MIB:.1f}")
            assert {"weights", "kv", "tokenizer", "scratch"} <= {p["name"] for p in pools}, pools
            assert used <= limit, (used, limit)


if __name__ == "__main__":
    main()
