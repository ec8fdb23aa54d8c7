#!/usr/bin/env python3
"""The command against a real runtime and a real model: run, complete, chat, tokenize, template,
embed, eval, and what looks after the runtime. Usage: cli_run.py INGLED INGLE"""
import json
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import time
import unittest

import running

INGLED, INGLE = map(os.path.abspath, sys.argv[1:3])
MODEL = running.model_path("smollm2-135m-instruct-q4_1.gguf")
GOLDEN = pathlib.Path(__file__).parents[1] / "model/golden"


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, env, *args):
        pid, self.fd = pty.fork()
        if pid == 0:
            os.execve(args[0], list(args), dict(env, TERM="xterm"))
        self.pid, self.text = pid, ""

    def wait_for(self, word, seconds=60):
        deadline = time.monotonic() + seconds
        while word not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            try:
                data = os.read(self.fd, 4096) if ready else b""
            except OSError:
                data = b""
            if not data:
                raise AssertionError(f"no {word!r} in:\n{self.text}")
            self.text += data.decode(errors="replace")
        before, _, self.text = self.text.partition(word)
        return before

    def quiet(self):
        """Read until nothing more comes."""
        while select.select([self.fd], [], [], 0.2)[0]:
            self.text += os.read(self.fd, 4096).decode(errors="replace")

    def send(self, text):
        os.write(self.fd, text.encode())

    def interrupt(self, prompt):
        """Ctrl-C, and the prompt that follows. With that key the kernel drops what the terminal has
        not shown yet, now and then the prompt itself: Enter brings another."""
        self.send("\x03")
        try:
            self.wait_for(prompt, 5)
        except AssertionError:
            self.send("\r")
            self.wait_for(prompt)

    def status(self):
        for _ in range(400):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it did not end")


class Run(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = running.runtime(INGLED, INGLE)
        cls.r = cls.context.__enter__()
        cls.r.env["PATH"] = os.path.dirname(INGLED) + ":" + cls.r.env["PATH"]
        cls.r.ingle("pull", MODEL, "--name", "small")

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def fails(self, status, *args, text=b""):
        """Run the command; check its exit status and that stdout stays empty; give back stderr."""
        done = subprocess.run(self.r.command(*args), env=self.r.env, input=text, timeout=120,
                              capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (status, b""), done.stderr)
        return done.stderr.decode()

    def test_run_prints_the_answer_alone(self):
        args = ("run", "-m", "small", "-n", "12", "Explain why the sky is blue.")
        done = subprocess.run(self.r.command(*args), env=self.r.env, capture_output=True,
                              check=True, timeout=120, stdin=subprocess.DEVNULL)
        self.assertEqual(done.stderr, b"")
        self.assertTrue(done.stdout.endswith(b"\n"))
        answer = json.loads(self.r.ingle(*args, "--json"))
        self.assertEqual(answer["text"] + "\n", done.stdout.decode())
        self.assertEqual((answer["n_tokens"], answer["stopped_by"]), (12, "length"))
        self.assertEqual(len(answer["tokens"]), 12)
        self.assertEqual(self.r.ingle("run", "-m", MODEL, *args[3:]), done.stdout)
        self.assertEqual(self.r.ingle(*args[:5], "-", text=args[5].encode()), done.stdout)

    def test_a_seed_decides_and_stop_texts_end(self):
        args = ("run", "-m", "small", "-n", "20", "--temperature", "1", "Tell a story.")
        first, again = (self.r.ingle(*args, "--seed", "5") for _ in range(2))
        self.assertEqual(first, again)
        self.assertNotEqual(first, self.r.ingle(*args, "--seed", "6"))
        stopped = json.loads(self.r.ingle("complete", "-m", "small", "-n", "40", "--json", "--stop",
                                          ",", "Once upon a"))
        self.assertEqual(stopped["stopped_by"], "stop")
        self.assertNotIn(",", stopped["text"])

    def test_the_largest_logits_give_the_answer_that_all_of_them_give(self):
        args = ("run", "-m", "small", "-n", "20", "--json", "--temperature", "1", "--seed", "9",
                "--top-k", "40", "Tell a story.")
        some, every = (json.loads(self.r.ingle(*args, *more)) for more in (
            (), ("--presence-penalty", "1e-30")))  # too small to change one, but all are kept
        self.assertEqual(some["tokens"], every["tokens"])
        self.assertEqual(len(some["tokens"]), 20)

    def test_the_model_of_another_store_is_run_where_it_lies(self):
        store = self.r.folder / ".ollama/models"
        manifest = store / "manifests/registry.ollama.ai/library/small/latest"
        (store / "blobs").mkdir(parents=True)
        manifest.parent.mkdir(parents=True)
        (store / "blobs/sha256-11").symlink_to(MODEL)
        manifest.write_text(json.dumps({"layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:11"}]}))
        args = ("-n", "3", "hi")
        self.assertEqual(self.r.ingle("run", "-m", "ollama:small:latest", *args),
                         self.r.ingle("run", "-m", "small", *args))

    def test_raw_is_complete(self):
        text = "The opposite of hot is"
        self.assertEqual(self.r.ingle("run", "--raw", "-m", "small", "-n", "4", text),
                         self.r.ingle("complete", "-m", "small", "-n", "4", text))

    def test_bad_words_have_their_exit_status(self):
        self.assertIn("ingle ls", self.fails(4, "run", "-m", "nothing", "hi"))
        self.assertIn("byte 1", self.fails(2, "run", "-m", "small", text=b"a\xffb"))
        self.assertIn("8192", self.fails(5, "complete", "-m", "small", text=b"word " * 9000))
        self.fails(2, "run", "-m", "small", "--temperature", "x", "hi")
        self.fails(2, "eval", "-m", "small", str(GOLDEN / "README.md"))
        self.fails(4, "unload", "nothing")
        self.fails(4, "kill", "4000000")
        self.fails(2, "kill", "me")
        bad = self.r.folder / "bad.gguf"
        bad.write_bytes(pathlib.Path(MODEL).read_bytes()[:100000])
        self.assertIn("truncated", self.fails(6, "run", "-m", str(bad), "hi"))
        bad.write_bytes(b"#!/bin/sh\n")
        self.fails(6, "run", "-m", str(bad), "hi")
        self.fails(6, "run", "-m", "/etc/passwd", "hi")
        self.r.ingle("run", "-m", "small", "-n", "1", "still here")

    def test_tokens_go_there_and_back(self):
        text = "Hello <|im_end|> wörld\n"
        special = json.loads(self.r.ingle("tokenize", "-m", "small", "--json", text=text.encode()))
        plain = json.loads(self.r.ingle("tokenize", "-m", "small", "--json", "--no-special",
                                        text=text.encode()))
        self.assertLess(len(special), len(plain))
        for ids in (special, plain):
            back = self.r.ingle("tokenize", "-m", "small", "--decode",
                                text=json.dumps(ids).encode())
            self.assertEqual(back.decode(), text)
        self.assertEqual(self.r.ingle("tokenize", "-m", "small", "--json", text=b""), b"[]\n")
        self.fails(2, "tokenize", "-m", "small", "--decode", text=b"[1,x]")

    def test_a_chat_is_rendered(self):
        out = self.r.ingle("template", "-m", "small", text=b'[{"role":"user","content":"h\\"i"}]')
        self.assertTrue(out.endswith(b'<|im_start|>user\nh"i<|im_end|>\n<|im_start|>assistant\n'))
        self.fails(2, "template", "-m", "small", text=b"{}")

    def test_a_vector_has_length_one(self):
        vector = json.loads(self.r.ingle("embed", "-m", "small", "some text"))
        self.assertEqual(len(vector), 576)
        self.assertAlmostEqual(sum(x * x for x in vector), 1, places=3)

    def test_eval_prints_one_object(self):
        golden = json.loads((GOLDEN / "smollm2-135m-instruct-q4_1.json").read_text())
        golden["prompts"] = golden["prompts"][:1]
        short = self.r.folder / "short.json"
        short.write_text(json.dumps(golden))
        report = json.loads(self.r.ingle("eval", "-m", "small", "--json", str(short)))
        self.assertEqual(list(report), ["prompts", "all"])
        for line in (report["prompts"][0], report["all"]):
            self.assertTrue(line["ids_equal"] and line["greedy_equal"])
            self.assertTrue(0 < line["mean_abs_dlogp"] < 0.2 and line["top1"] >= 0.9, line)
            self.assertTrue(0 <= line["mean_kl"] < 0.1 and line["ppl"] > 1, line)
        exact = json.loads(self.r.ingle("eval", "-m", "small", "--json", "--kernels", "ref",
                                        "--kv-bits", "16", str(short)))["all"]
        self.assertLess(exact["mean_abs_dlogp"], 0.003)
        self.assertEqual(exact["top1"], 1)

    def test_listings_say_what_runs(self):
        self.r.ingle("load", "small")
        ps = self.r.ps()
        self.assertIn("small", [m["name"] for m in ps["models"]])
        self.assertLessEqual(ps["memory"]["used"], ps["memory"]["budget"])
        self.assertIn("small", self.r.ingle("ps").decode())
        sessions = json.loads(self.r.ingle("sessions", "--json"))
        self.assertEqual([s["name"] for s in sessions], ["ingle"])
        self.assertIn("attach", self.r.ingle("logs", "-n", "20").decode())
        doctor = {c["name"]: c for c in json.loads(self.r.ingle("doctor", "--json"))}
        self.assertEqual(doctor["runtime"]["found"], "runs and answers")
        small = next(m for m in ps["models"] if m["name"] == "small")
        self.assertEqual(doctor["kernels"]["found"], small["kernels"])

    def test_interrupt_cancels_the_request_and_not_the_runtime(self):
        process = self.r.popen("run", "-m", "small", "--ignore-eos", "Count to a million.")
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual((process.returncode, err), (130, b""))
        self.assertTrue(out.endswith(b"\n"))
        sessions = json.loads(self.r.ingle("sessions", "--json"))
        self.assertEqual([s["requests_now"] for s in sessions], [0])

    def test_chat_keeps_the_conversation(self):
        t = Terminal(self.r.env, INGLE, "chat", "-m", "small", "-n", "400")
        t.wait_for("> ")
        t.send("Hello, my name is Ada.\r")
        t.wait_for("\n> ")
        t.send("Write a very long story.\r")
        t.wait_for("\n")
        t.wait_for(" ")
        t.interrupt("\n> ")
        t.send("half a line")
        t.interrupt("> ")
        t.send("/help\r")
        t.wait_for("/retry")
        t.wait_for("> ")
        t.quiet()  # there may be one prompt more: a late one, which was asked for again
        t.send("\x04")
        self.assertEqual(t.status(), 0)
        history = (self.r.folder / "state_home/ingle/history").read_text()
        self.assertIn("Ada", history)
        lines = self.r.ingle("chat", "-m", "small", "-n", "5", text=b"one \\\ntwo\n/clear\nthree\n")
        self.assertEqual(lines.count(b"\n"), 2)

    def test_an_interrupt_outside_a_line_leaves_the_end_of_input_alone(self):
        """One that arrives while nothing is read is over with the next line; it must not be taken
        for the reason why the input ended."""
        for i in range(10):
            t = Terminal(self.r.env, INGLE, "chat", "-m", "small")
            t.wait_for("> ")
            t.send("/help\r")
            time.sleep(i * 4e-5)
            os.kill(t.pid, signal.SIGINT)
            t.quiet()
            t.send("\r")
            t.quiet()
            t.send("\x04")
            self.assertEqual(t.status(), 0)


class Start(unittest.TestCase):
    """Where no runtime runs."""

    def setUp(self):
        with running.runtime(INGLED, INGLE) as r:
            self.env = r.env
        self.folder = pathlib.Path(self.env["HOME"])
        for name in ("RUNTIME_DIR", "DATA_HOME", "STATE_HOME", "CONFIG_HOME", "CACHE_HOME"):
            path = pathlib.Path(self.env["XDG_" + name])
            path.mkdir(mode=0o700, parents=True)
        self.env["PATH"] = os.path.dirname(INGLED) + ":" + self.env["PATH"]

    def tearDown(self):
        subprocess.run([INGLE, "shutdown"], env=self.env, capture_output=True, check=False)
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)

    def ingle(self, *args):
        return subprocess.run([INGLE, *args], env=self.env, capture_output=True, timeout=120,
                              stdin=subprocess.DEVNULL, check=False)

    def test_verbs_that_only_look_do_not_start_it(self):
        for verb in ("ps", "sessions", "shutdown", "logs"):
            done = self.ingle(verb)
            self.assertEqual((done.returncode, done.stdout), (3, b""), done.stderr)
            self.assertIn(b"ingle.sock", done.stderr)

    def test_run_starts_it_says_so_in_one_line_and_leaves_it_running(self):
        done = self.ingle("run", "-m", MODEL, "-n", "3", "hi")
        self.assertEqual(done.returncode, 0, done.stderr)
        said = [line for line in done.stderr.splitlines() if not line.startswith(b"loading")]
        self.assertEqual(len(said), 1, done.stderr)
        self.assertIn(b"ingle shutdown", said[0])
        again = self.ingle("run", "-m", MODEL, "-n", "3", "hi")
        self.assertEqual((again.stdout, again.stderr), (done.stdout, b""))
        self.assertTrue((self.folder / "state_home/ingle/ingled.log").exists())
        self.assertEqual(self.ingle("shutdown").returncode, 0)
        for _ in range(200):
            if self.ingle("ps").returncode == 3:
                break
            time.sleep(0.05)
        self.assertEqual(self.ingle("ps").returncode, 3)

    def test_two_starts_at_once_give_one_runtime(self):
        both = [subprocess.Popen([INGLE, "run", "-m", MODEL, "-n", "3", "hi"], env=self.env,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE) for _ in range(2)]
        answers = [p.communicate(timeout=120) for p in both]
        self.assertEqual([p.returncode for p in both], [0, 0], answers)
        self.assertEqual(answers[0][0], answers[1][0])
        self.assertEqual(self.ingle("ps").returncode, 0)

    def test_the_configuration_is_set_checked_and_read(self):
        self.assertEqual(self.ingle("config", "set", "hub.base", "http://h:1").returncode, 0)
        self.assertEqual(self.ingle("config", "set", "model.fim.kv_bits", "4").returncode, 0)
        self.assertEqual(self.ingle("config", "get", "hub.base").stdout, b"http://h:1\n")
        self.assertEqual(self.ingle("config", "get", "model.fim.kv_bits").stdout, b"4\n")
        self.assertEqual(self.ingle("config", "set", "model.fim.kv_bits", "5").returncode, 2)
        done = self.ingle("config", "set", "hub.bas", "x")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b'did you mean "base"', done.stderr)
        self.assertEqual(self.ingle("config", "check").returncode, 0)
        self.assertEqual(self.ingle("config", "get", "hub.nothing").returncode, 4)
        config = self.folder / "config_home/ingle/ingle.conf"
        config.write_text("; mine\n[hub]\n; here\nbase = a\n[daemon]\nthreads = 1\n")
        self.assertEqual(self.ingle("config", "set", "hub.base", "b").returncode, 0)
        self.assertEqual(config.read_text(),
                         "; mine\n[hub]\n; here\nbase = b\n[daemon]\nthreads = 1\n")
        config.write_text("[daemon]\nthread = 1\n")
        self.assertEqual(self.ingle("config", "check").returncode, 2)

    def test_setup_can_be_run_again(self):
        self.assertEqual(self.ingle("setup").returncode, 0)
        config = self.folder / "config_home/ingle/ingle.conf"
        text = config.read_text()
        self.assertEqual(self.ingle("setup").returncode, 0)
        self.assertEqual(config.read_text(), text)
        self.assertEqual(self.ingle("config", "check").returncode, 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
