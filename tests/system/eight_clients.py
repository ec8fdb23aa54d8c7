#!/usr/bin/env python3
"""Eight client processes at once, each with its own prompt and sampling: every stream equals its
solo run byte for byte. Usage: eight_clients.py INGLED INGLE"""
import sys

import running

MODEL = "smollm2-135m-instruct-q4_1.gguf"
JOBS = [
    ("Tell a story about a lighthouse.", ["--temperature", "0"]),
    ("Write a C function that adds two numbers.", ["--temperature", "0.8", "--seed", "7"]),
    ("What is the capital of France?", ["--temperature", "0"]),
    ("List five animals that can swim.",
     ["--temperature", "1.1", "--seed", "11", "--top-k", "200"]),
    ("Explain how rain forms.", ["--temperature", "0"]),
    ("Translate to German: good morning",
     ["--temperature", "0.5", "--seed", "3", "--top-k", "40"]),
    ("Tell a story about a mountain. " * 20, ["--temperature", "0"]),
    ("Tell a story about a mountain. " * 20 + "A river.", ["--temperature", "0.9", "--seed", "5"]),
]


def args(model, job):
    return ["run", "-m", model, "-n", "60", *job[1], job[0]]


def main():
    model = running.model_path(MODEL)
    with running.runtime(sys.argv[1], sys.argv[2]) as r:
        solo = [r.ingle(*args(model, job)) for job in JOBS]
    assert all(len(answer) > 20 for answer in solo), solo
    assert len(set(solo)) == len(solo)
    with running.runtime(sys.argv[1], sys.argv[2]) as r:  # nothing cached from the solo runs
        for turn in ("cold", "warm"):
            together = [r.popen(*args(model, job)) for job in JOBS]
            for i, process in enumerate(together):
                out, err = process.communicate(timeout=300)
                assert process.returncode == 0, err
                assert out == solo[i], f"{turn}: client {i}\nsolo:     {solo[i]}\ntogether: {out}"
            print(f"{turn}: {len(JOBS)} streams equal their solo runs")


if __name__ == "__main__":
    main()
