#!/usr/bin/env python3
"""Compares our chat templates with Jinja2, configured as transformers configures it.

Usage: oracle_jinja.py RENDER SUITE, SUITE one of
  families          every template in families/ with every set of variables in variables.json
  cases             every snippet in cases.txt
  random SEED N     N templates from a random grammar
  models            the chat templates of the GGUF files in INGLE_TEST_MODELS
RENDER is the program of render.c. Exit 77: skipped, with the reason.
"""
import datetime
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

try:
    import jinja2
    import jinja2.ext
    import jinja2.idtracking
    import jinja2.sandbox
except ImportError:
    print("skipped: python3-jinja2 is not installed")
    sys.exit(77)

import random_template  # beside this file

HERE = pathlib.Path(__file__).resolve().parent
NOW = 1764000000


def scope_as_3_1_5(symbols=jinja2.idtracking.Symbols):
    """Until 3.1.5 a name that every branch of an {% if %} sets was undefined before, since then it
    comes from outside, as one that some branches set does. One more branch, without a set, has the
    older versions judge like the newer ones."""
    update = symbols.branch_update
    symbols.branch_update = lambda self, branches: update(self, [self.copy(), *branches])


scope_as_3_1_5()


class Generation(jinja2.ext.Extension):
    """{% generation %}: marks what the assistant says; prints its body."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("body"), [], [], body).set_lineno(line)

    def body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW).strftime(f)
    return env


ENV = environment()


@functools.lru_cache(maxsize=1)
def compiled(source):
    return ENV.from_string(source)


def jinja(source, variables):
    """("ok", text) or ("error", message)."""
    try:
        text = compiled(source).render(
            **{"bos_token": "<s>", "eos_token": "</s>", **variables})
        text.encode()  # a lone surrogate is no text
        return "ok", text
    except Exception as e:  # whatever a template can provoke
        return "error", f"{type(e).__name__}: {e}"


class Ours:
    def __init__(self, program):
        self.pipe = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, source, variables):
        source = source.encode()
        data = json.dumps(variables).encode()
        self.pipe.stdin.write(b"%d %d %d\n" % (len(source), len(data), NOW) + source + data)
        self.pipe.stdin.flush()
        head = self.pipe.stdout.readline().split()
        if len(head) != 2:
            raise SystemExit(f"render stopped at {source!r}")
        return head[0].decode(), self.pipe.stdout.read(int(head[1])).decode()


class Tally:
    def __init__(self, program):
        self.ours = Ours(program)
        self.equal = self.both_refuse = self.refused = self.failed = 0
        self.reasons = {}

    def compare(self, name, source, variables, must_accept=False):
        """One template on both sides. What Jinja2 renders we render equally, or refuse with a
        line; what Jinja2 refuses we refuse."""
        want, want_text = jinja(source, variables)
        got, text = self.ours.render(source, variables)
        problem = None
        if want == "ok" and got == "ok":
            self.equal += text == want_text
            problem = None if text == want_text else "different"
        elif want == "ok":
            self.refused += 1
            reason = re.sub(r"^template line \d+: ", "", text)
            if must_accept:
                problem = "refused by us"
            elif not re.match(r"template line \d+: ", text) or \
                    not re.search("not supported|more than|deeper than|beyond 64 bits", text):
                problem = "refused by us without naming a construct"
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        elif got == "ok":
            problem = "accepted by us alone"
        else:
            self.both_refuse += 1
        if problem:
            self.failed += 1
            if self.failed <= 20:
                print(f"--- {name}: {problem}\ntemplate: {source!r}\njinja2 {want}: {want_text!r}"
                      f"\nours   {got}: {text!r}")

    def close(self):
        for reason, n in sorted(self.reasons.items(), key=lambda r: -r[1])[:15]:
            print(f"refused {n:5}: {reason}")
        print(f"jinja2 {jinja2.__version__}: {self.equal} equal, {self.both_refuse} refused by"
              f" both, {self.refused} refused by us alone, {self.failed} failed")
        return 1 if self.failed or not self.equal else 0


def variable_sets():
    return json.loads((HERE / "variables.json").read_text()).items()


def families(tally):
    for path in sorted((HERE / "families").glob("*.jinja")):
        source = path.read_text()
        rendered = 0
        for name, variables in variable_sets():
            before = tally.equal
            tally.compare(f"{path.name} with {name}", source, variables, must_accept=True)
            rendered += tally.equal - before
        if rendered == 0:
            print(f"--- {path.name}: no set of variables renders")
            tally.failed += 1


def cases(tally):
    """cases.txt: snippets, each behind a line of ====, over the variables of the random ones."""
    text = (HERE / "cases.txt").read_bytes().decode()
    for i, source in enumerate(text.split("====\n")[1:]):
        tally.compare(f"case {i + 1}", source, random_template.VARIABLES, must_accept=True)


def models(tally):
    folder = os.environ.get("INGLE_TEST_MODELS")
    if not folder:
        print("skipped: INGLE_TEST_MODELS is not set")
        sys.exit(77)
    try:
        import gguf
    except ImportError:
        print("skipped: the Python package gguf is not installed")
        sys.exit(77)
    found = 0
    for path in sorted(pathlib.Path(folder).glob("*.gguf")):
        field = gguf.GGUFReader(path).fields.get("tokenizer.chat_template")
        if field is not None:
            found += 1
            for name, variables in variable_sets():
                tally.compare(f"{path.name} with {name}", field.contents(), variables, True)
    if not found:
        print("skipped: no model with a chat template in INGLE_TEST_MODELS")
        sys.exit(77)


def random_templates(tally, seed, n):
    gen = random_template.Generator(seed)
    for i in range(n):
        tally.compare(f"random {seed}/{i}", gen.template(), random_template.VARIABLES)


def main():
    tally = Tally(sys.argv[1])
    suite = sys.argv[2]
    if suite == "random":
        random_templates(tally, int(sys.argv[3]), int(sys.argv[4]))
    else:
        {"families": families, "cases": cases, "models": models}[suite](tally)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
