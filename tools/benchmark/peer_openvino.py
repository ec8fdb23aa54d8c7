"""OpenVINO GenAI for tools/bench: peer_openvino.py FD THREADS. One order a line on the socket FD,
`VERB PROMPT_TOKENS TOKENS SEQUENCES MODEL.gguf`, one line of answer: tokens per second, or a
sentence. Verbs as in engine.h: prefill, decode, together. Models stay loaded, as converting one
takes many seconds; the process sleeps between orders, and ends when the socket does.

Everything goes through the pipeline with continuous batching, one step of it at a time, so that a
step's time can be taken. Prompts are random ids, new each time; nothing is cached between them.
"""
import gc
import random
import socket
import sys
import time

import numpy
import openvino
import openvino_genai as genai

THREADS = int(sys.argv[2])
GROUPS = (32, 64)  # activations in int8 by groups of so many: tried at the first order
pipelines = {}
best = {}
counter = 0


def pipeline(model, group):
    key = (model, group)
    if key not in pipelines:
        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = 4096
        scheduler.cache_size = 1
        pipelines[key] = genai.ContinuousBatchingPipeline(
            model, scheduler, "CPU",
            {"INFERENCE_NUM_THREADS": THREADS, "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group)}, {})
        run(pipelines[key], 64, 4, 1)
    return pipelines[key]


def run(pipe, prompt_tokens, tokens, sequences):
    """Seconds until every sequence had its first token, then (seconds, tokens) of the other
    steps in which all of them ran."""
    global counter
    config = genai.GenerationConfig()
    config.max_new_tokens = tokens
    config.ignore_eos = True
    config.do_sample = False
    handles = []
    start = time.perf_counter()
    for _ in range(sequences):
        counter += 1
        ids = [random.randrange(1000, 40000) for _ in range(prompt_tokens)]
        ids = openvino.Tensor(numpy.array([ids], dtype=numpy.int64))
        handles.append(pipe.add_request(counter, ids, config))
    got = [0] * sequences
    first = last = None
    steady = 0
    while pipe.has_non_finished_requests():
        pipe.step()
        now = time.perf_counter()
        before = sum(got)
        for i, handle in enumerate(handles):
            while handle.can_read():
                got[i] += sum(len(out.generated_ids) for out in handle.read().values())
        if first is not None and max(got) <= tokens:
            steady += sum(got) - before
            last = now
        elif first is None and min(got) > 0:
            first = now
    return first - start, ((last or first) - first, steady)


def speed(pipe, verb, prompt_tokens, tokens, sequences):
    if verb == "prefill":
        return prompt_tokens / run(pipe, prompt_tokens, 1, 1)[0]
    seconds, steady = run(pipe, prompt_tokens, tokens, sequences if verb == "together" else 1)[1]
    return steady / seconds


def answer(order):
    verb, prompt_tokens, tokens, sequences, model = order.strip().split(maxsplit=4)
    what = (verb, int(prompt_tokens), int(tokens), int(sequences))
    return speed(pipeline(model, 32), *what)


def main():
    orders = socket.socket(fileno=int(sys.argv[1])).makefile("rw")
    for order in orders:
        try:
            orders.write(f"{answer(order):.6g}\n")
        except Exception as error:  # whatever it is, the bench goes on without this figure
            orders.write(f"{type(error).__name__}: {error}".replace("\n", " ") + "\n")
        orders.flush()


if __name__ == "__main__":
    main()
