"""OpenVINO GenAI for tools/bench.

peer_openvino.py FD THREADS: one order a line on the socket FD,
`VERB WARM_UP_TOKENS PROMPT_TOKENS TOKENS SEQUENCES MODEL.gguf`, one line of answer: tokens per
second, or a sentence. Verbs and warm-up as in engine.h: prefill, decode, together. A model stays
loaded, as converting it takes many seconds; the process sleeps between orders, and ends when the
socket does. Everything goes through the pipeline with continuous batching, one step at a time, so
that steps can be timed; LLMPipeline is no faster for one sequence, nor are groups of int8
activations other than its 32.

peer_openvino.py quality MODEL.gguf GOLDEN.json THREADS: mean |difference of log p| on a golden
file (tests/model/golden/README.md), by the same converted model.
"""
import json
import os
import random
import socket
import sys
import tempfile
import time

import numpy
import openvino
import openvino_genai as genai

pipelines = {}
counter = 0


def pipeline(model, threads):
    if model not in pipelines:
        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = 4096
        scheduler.cache_size = 1
        pipelines[model] = genai.ContinuousBatchingPipeline(
            model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}, {})
        run(pipelines[model], 64, 4, 1)
    return pipelines[model]


def run(pipe, prompt_tokens, tokens, sequences):
    """Fresh random prompts. Seconds until every sequence has its first token; seconds and tokens
    of the steps after that."""
    global counter
    config = genai.GenerationConfig()
    config.max_new_tokens = tokens
    config.ignore_eos = True
    config.do_sample = False
    handles = []
    start = time.perf_counter()
    for _ in range(sequences):
        counter += 1
        ids = [[random.randrange(1000, 40000) for _ in range(prompt_tokens)]]
        handles.append(pipe.add_request(
            counter, openvino.Tensor(numpy.array(ids, dtype=numpy.int64)), config))
    got = [0] * sequences
    first = last = None
    steady = 0
    while pipe.has_non_finished_requests():
        pipe.step()
        last = time.perf_counter()
        before = sum(got)
        for i, handle in enumerate(handles):
            while handle.can_read():
                got[i] += sum(len(out.generated_ids) for out in handle.read().values())
        if first is not None:
            steady += sum(got) - before
        elif min(got) > 0:
            first = last
    return first - start, last - first, steady


def answer(order, threads):
    verb, warm_up, prompt_tokens, tokens, sequences, model = order.strip().split(maxsplit=5)
    pipe = pipeline(model, threads)
    if verb == "prefill":
        run(pipe, int(warm_up), 1, 1)
        return int(prompt_tokens) / run(pipe, int(prompt_tokens), 1, 1)[0]
    _, seconds, steady = run(pipe, int(prompt_tokens), int(tokens),
                             int(sequences) if verb == "together" else 1)
    return steady / seconds


def serve(fd, threads):
    orders = socket.socket(fileno=fd).makefile("rw")
    for order in orders:
        try:
            line = f"{answer(order, threads):.6g}"
        except Exception as error:  # whatever it is, the bench goes on without this figure
            line = f"{type(error).__name__}: {error}".replace("\n", " ")
        orders.write(line + "\n")
        orders.flush()


def quality(model, golden, threads):
    with open(golden, encoding="utf-8") as file:
        prompts = json.load(file)["prompts"]
    with tempfile.TemporaryDirectory() as folder:  # the converted model is written beside its file
        link = os.path.join(folder, "model.gguf")
        os.symlink(os.path.abspath(model), link)
        genai.LLMPipeline(link, "CPU", enable_save_ov_model=True)
        compiled = openvino.Core().compile_model(
            os.path.join(folder, "openvino_model.xml"), "CPU", {"INFERENCE_NUM_THREADS": threads})
        request = compiled.create_infer_request()
        errors = [prompt_errors(request, prompt) for prompt in prompts]
    return numpy.concatenate(errors).mean()


def prompt_errors(request, prompt):
    n = len(prompt["ids"])
    ids = numpy.array([prompt["ids"]], dtype=numpy.int64)
    request.reset_state()
    result = request.infer({"input_ids": ids, "attention_mask": numpy.ones_like(ids),
                            "position_ids": numpy.arange(n, dtype=numpy.int64)[None],
                            "beam_idx": numpy.zeros(1, dtype=numpy.int32)})
    logits = result["logits"][0, :-1].astype(numpy.float64)
    logits -= logits.max(-1, keepdims=True)
    chosen = logits[numpy.arange(n - 1), ids[0, 1:]] - numpy.log(numpy.exp(logits).sum(-1))
    return abs(chosen - numpy.array(prompt["next_logprob"]))


if __name__ == "__main__":
    if sys.argv[1] == "quality":
        print(f"{quality(sys.argv[2], sys.argv[3], int(sys.argv[4])):.6f}")
    else:
        serve(int(sys.argv[1]), int(sys.argv[2]))
