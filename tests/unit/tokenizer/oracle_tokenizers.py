#!/usr/bin/env python3
"""Compare ids with PyPI `tokenizers` on random Unicode text.

usage: oracle_tokenizers.py TOKENIZE_LINES [N_TEXTS [SEED]]

Builds a BPE tokenizer from the vocabulary and merges of each GGUF file in INGLE_TEST_MODELS that is
byte-level, with the pre-tokenizer its authors publish (and no normalizer: llama.cpp and ours have
none), and compares with what TOKENIZE_LINES prints. The pre-tokenizers that no file there uses are
tried on a copy of the last file's vocabulary. Exit 77 when there is nothing to compare with.

Two differences are known and listed, not failed:
- Words are split by Unicode properties, from tables of different ages: PCRE2 10.42 has Unicode 14,
  as this Python may have; `tokenizers` has a later one. Code points that Python's table does not
  assign are tried one by one first, and those that give other ids are left out of the texts.
- SmolLM2's vocabulary lacks the tokens of some bytes. `tokenizers` drops such a byte before it
  merges, so its neighbours may merge; llama.cpp and ours drop it afterwards.
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

try:
    from gguf import GGUFReader, GGUFWriter
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
except ImportError as e:
    print(f"skipped: {e.name} cannot be imported")
    sys.exit(77)

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
SCRIPTS = [(0x20, 0x7e)] * 4 + [(0, 0x1f), (0x80, 0x24f), (0x300, 0x36f), (0x370, 0x5ff),
           (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f), (0x1680, 0x1680), (0x180e, 0x180e),
           (0x2000, 0x206f), (0x2070, 0x218f), (0x2460, 0x24ff), (0x3000, 0x30ff),
           (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xe000, 0xffff), (0x1f300, 0x1faff),
           (0x10000, 0x10ffff)]
SAMPLES = ["I'm", "they'LL", "we'\u017f", " 's", "\u00b2\u2460\u0663\u4e09", "  \n\n  x",
           "\r\n\r\n", "\t\t\ta", " \u180e a", "\u3000\u3000a", "a\u0301b", "!?\n\n", "x  ",
           "0123456789", "don\u2019t", "\U0001f468\u200d\U0001f469", " \u00a0 \u2003b",
           "\x1c\x1d\x85a"]


def split_by(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


PRE = {
    "qwen2": lambda: [split_by(QWEN2), pre_tokenizers.ByteLevel(False, use_regex=False)],
    "llama-bpe": lambda: [split_by(LLAMA), pre_tokenizers.ByteLevel(False, use_regex=False)],
    "smollm": lambda: [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)],
    "gpt2": lambda: [pre_tokenizers.ByteLevel(False)],
}


def strings(reader, key):
    field = reader.fields[key]
    return [bytes(field.parts[i]).decode("utf-8", "surrogateescape") for i in field.data]


def build(reader, pre):
    types = [int(reader.fields["tokenizer.ggml.token_type"].parts[i][0])
             for i in reader.fields["tokenizer.ggml.token_type"].data]
    vocab = {t: i for i, t in enumerate(strings(reader, "tokenizer.ggml.tokens")) if types[i] == 1}
    merges = [tuple(m.split(" ")) for m in strings(reader, "tokenizer.ggml.merges")]
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre == "llama-bpe"))
    tok.pre_tokenizer = pre_tokenizers.Sequence(PRE[pre]())
    return tok


def byte_text(b):
    """The GPT-2 alphabet: printable Latin-1 bytes stand for themselves, others follow U+0100."""
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    return chr(b if b in plain else 0x100 + sum(x not in plain for x in range(b)))


def ours(program, model, texts):
    lines = "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts)
    out = subprocess.run([program, model], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def newer_code_points(program, model, oracle, lost):
    """Code points unknown to Python's table that the two sides split differently."""
    points = [c for c in [*range(0x323b0), *range(0xe0000, 0xe0200)]
              if unicodedata.category(chr(c)) == "Cn" and not lost & set(chr(c).encode())]
    texts = [f"a{chr(c)}a1{chr(c)}1!{chr(c)}! {chr(c)}{chr(c)}" for c in points]
    theirs = [e.ids for e in oracle.encode_batch(texts)]
    return [c for c, a, b in zip(points, theirs, ours(program, model, texts)) if a != b]


def random_text(rng, excluded, lost):
    text = []
    for _ in range(rng.randrange(1, 12)):
        if rng.random() < 0.1:
            text.append(rng.choice(SAMPLES))
            continue
        low, high = rng.choice(SCRIPTS)
        text += [chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 9))]
    return "".join(c for c in "".join(text) if not 0xd800 <= ord(c) <= 0xdfff
                   and ord(c) not in excluded and not lost & set(c.encode()))


def ranges(points):
    out = []
    for c in points:
        if out and c == out[-1][1] + 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return [f"U+{a:04X}" if a == b else f"U+{a:04X}..U+{b:04X}" for a, b in out]


def copy_vocabulary(reader, pre, path):
    writer = GGUFWriter(path, "none")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(strings(reader, "tokenizer.ggml.tokens"))
    writer.add_token_types(reader.fields["tokenizer.ggml.token_type"].contents())
    writer.add_token_merges(strings(reader, "tokenizer.ggml.merges"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def compare(program, path, reader, pre, n_texts, seed):
    oracle = build(reader, pre)
    lost = {b for b in range(256) if oracle.token_to_id(byte_text(b)) is None}
    excluded = newer_code_points(program, str(path), oracle, lost)
    print(f"{path.name} ({pre}): bytes without a token: {sorted(lost) or 'none'}; newer than "
          f"Unicode {unicodedata.unidata_version} and split differently: "
          f"{ranges(excluded) or 'none'}")
    rng = random.Random(seed)
    excluded = set(excluded)
    texts = [random_text(rng, excluded, lost) for _ in range(n_texts)]
    texts += [t for t in SAMPLES if not lost & set(t.encode())]
    theirs = [e.ids for e in oracle.encode_batch(texts)]
    wrong = [(t, a, b) for t, a, b in zip(texts, theirs, ours(program, str(path), texts)) if a != b]
    for text, a, b in wrong[:10]:
        print(f"  {text!r}\n    tokenizers {a}\n    ours       {b}")
    print(f"  {len(texts)} texts, {sum(map(len, theirs))} tokens, {len(wrong)} texts differ")
    return len(wrong)


def main():
    folder = os.environ.get("INGLE_TEST_MODELS")
    if folder is None:
        print("skipped: INGLE_TEST_MODELS is not set")
        return 77
    n_texts = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    readers = [(path, GGUFReader(path)) for path in sorted(pathlib.Path(folder).glob("*.gguf"))]
    readers = [(path, r) for path, r in readers
               if r.fields["tokenizer.ggml.model"].contents() == "gpt2"]
    if not readers:
        print("skipped: no byte-level model there")
        return 77
    wrong, seen = 0, set()
    for path, reader in readers:
        pre = reader.fields["tokenizer.ggml.pre"].contents()
        seen.add(pre)
        wrong += compare(sys.argv[1], path, reader, pre, n_texts, seed)
    with tempfile.TemporaryDirectory() as folder:
        for pre in [p for p in PRE if p not in seen]:
            path = pathlib.Path(folder) / f"{pre}.gguf"
            copy_vocabulary(readers[-1][1], pre, path)
            wrong += compare(sys.argv[1], path, readers[-1][1], pre, n_texts, seed)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
