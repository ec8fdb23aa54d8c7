#!/usr/bin/env python3
"""While a client polls, the step thread makes no system call per token: counted by strace.
Usage: step_syscalls.py INGLED INGLE POLLER"""
import pathlib
import shutil
import subprocess
import sys
import time

import running

TOKENS = 2000


def step_thread(pid):
    deadline = time.monotonic() + 20  # the socket is there before the thread has its name
    while time.monotonic() < deadline:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            if (task / "comm").read_text().strip() == "ingle-step":
                return task.name
        time.sleep(0.02)
    raise AssertionError("no thread named ingle-step")


def main():
    strace = shutil.which("strace")
    if strace is None:
        print("SKIP: strace is not installed")
        sys.exit(77)
    with running.runtime(sys.argv[1], sys.argv[2], ["--null"]) as r:
        socket = str(r.socket)
        out = r.folder / "strace.out"
        tracer = subprocess.Popen([strace, "-o", str(out), "-p", step_thread(r.process.pid)],
                                  stderr=subprocess.PIPE, text=True)
        line = tracer.stderr.readline()
        if "attached" not in line:
            tracer.wait(10)
            print(f"SKIP: strace may not attach here: {line.strip()}")
            sys.exit(77)
        time.sleep(0.2)
        poller = subprocess.run([sys.argv[3], socket, str(TOKENS)], capture_output=True,
                                timeout=60, text=True, check=False)
        tracer.terminate()
        tracer.wait(10)
        assert poller.returncode == 0 and int(poller.stdout) == TOKENS, poller
        calls = [c for c in out.read_text().splitlines() if "+++" not in c and "---" not in c]
        print(f"{TOKENS} tokens, {len(calls)} system calls on the step thread")
        # before the first token and after the last it sleeps and is woken, and a full ring is
        # looked at again now and then; none of that is per token
        assert len(calls) < TOKENS / 20, calls[:40]


if __name__ == "__main__":
    main()
