#!/usr/bin/env python3
"""The runtime on processors that lack what this one has, which an emulator stands in for: it starts
with the kernels that such a processor can execute, says so once where they are the slow ones, and
gives the same tokens. An instruction that is not there would end it. Usage: lesser_cpus.py INGLED
INGLE"""
import json
import shutil
import subprocess
import sys

import running

INGLED, INGLE = sys.argv[1:]
MODEL = running.model_path("smollm2-135m-instruct-q4_1.gguf")
EMULATOR = shutil.which("qemu-x86_64")
PROMPT = "The capital of France is Paris, of Italy it is Rome, of Spain it is Madrid, and of"
NO_AVX2 = "this CPU has no AVX2"


def answer(r):
    told = json.loads(r.ingle("run", "-m", MODEL, "-n", "3", "--raw", "--json", PROMPT))
    assert told["n_tokens"] == 3 and told["n_prompt"] > 16, told
    return told["tokens"]


def refuse_bf16(r):
    run = subprocess.run(r.command("run", "-m", MODEL, "--activations", "bf16", PROMPT), env=r.env,
                         capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 1 and "bf16 needs a CPU with AMX" in run.stderr, run


def run_on(cpu):
    """The log and the answer of a runtime on a processor of this name."""
    with running.runtime(EMULATOR, INGLE, args=["-cpu", cpu, INGLED]) as r:
        tokens = answer(r)
        assert answer(r) == tokens
        refuse_bf16(r)
        return r.log(), tokens


if EMULATOR is None:
    print("SKIP: no qemu-x86_64 (package qemu-user)")
    sys.exit(77)
with running.runtime(INGLED, INGLE) as native:
    here = answer(native)
for cpu, kernels in {"Nehalem": "ref", "Haswell": "avx2"}.items():
    log, tokens = run_on(cpu)
    assert f"kernels={kernels}\n" in log, log
    assert log.count(NO_AVX2) == (kernels == "ref"), log
    assert tokens == here, (cpu, tokens, here)
    print(f"{cpu}: {kernels}, the same tokens")
