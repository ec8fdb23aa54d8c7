#!/usr/bin/env python3
"""libingle against a real ingled: the examples, and a connection that breaks in mid-answer.
Usage: client_life.py INGLED INGLE HELLO TWO_AGENTS RECONNECT"""
import re
import subprocess
import sys

import running

TOKENS = 3000


def run(r, *command, expect=0):
    p = subprocess.run(command, env=r.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=60, check=False)
    if p.returncode != expect:
        raise AssertionError(f"{command[0]}: exit {p.returncode}\n{p.stderr}\n{r.log()}")
    return p.stdout, p.stderr


def main():
    ingled, ingle, hello, two_agents, reconnect = sys.argv[1:]
    with running.runtime(ingled, ingle, ["--null"]) as r:
        out, err = run(r, hello, "abc")
        assert len(out.split()) == 64 and "64 tokens; of 3 in the prompt" in err, (out, err)

        out, err = run(r, two_agents)
        read = int(re.search(r"agent one has read (\d+) tokens", err).group(1))
        took = int(re.search(r"took over (\d+) tokens without computing", err).group(1))
        assert read == took > 100, err
        assert len(out.split()) == 48, out
        out, err = run(r, two_agents, "go-on", "ctx1_" + "B" * 42 + "A", expect=1)
        assert "not found" in err, err

        socket = str(r.socket)
        out, _ = run(r, reconnect, socket, str(TOKENS))
        assert out == f"{TOKENS} tokens, {TOKENS // 500} cuts, res {TOKENS}\n", out
    # nobody listens any more: exit 3, and what to do
    _, err = run(r, hello, expect=3)
    assert "no runtime is listening" in err and "start one" in err, err


main()
