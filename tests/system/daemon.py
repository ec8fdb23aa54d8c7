#!/usr/bin/env python3
"""ingled as a process: starting twice, in the wrong place, with a wrong configuration; files that
are no models; a budget that is too small; reload, and an orderly end.
Usage: daemon.py INGLED INGLE"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import running


def start(ingled, *args, env=None):
    """Run ingled where it must end by itself; returns its exit status and what it said."""
    p = subprocess.run([ingled, *args], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=20, check=False)
    return p.returncode, p.stderr


def expect(what, got, status, *words):
    code, text = got
    for word in words:
        assert word in text, f"{what}: {word!r} is not in {text!r}"
    assert code == status, f"{what}: exit {code}, not {status}: {text}"


def wrong_places(ingled, folder):
    env = dict(os.environ, HOME=str(folder))
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    expect("open directory", start(ingled, "--null", "--socket", f"{shared}/s.sock", env=env), 1,
           "others may write to", "chmod 700")
    (folder / "link").symlink_to(folder)
    expect("symbolic link", start(ingled, "--null", "--socket", f"{folder}/link/s.sock", env=env),
           1, "is not a directory (or a symbolic link)")
    own = folder / "own"
    own.mkdir(mode=0o700)
    (own / "file.sock").write_text("precious")
    expect("a file", start(ingled, "--null", "--socket", f"{own}/file.sock", env=env), 1,
           "exists and is not a socket")
    assert (own / "file.sock").read_text() == "precious"
    expect("relative", start(ingled, "--null", "--socket", "here.sock", env=env), 2,
           "absolute path")
    expect("long", start(ingled, "--null", "--socket", "/" + "x" * 200, env=env), 2,
           "absolute path")
    expect("option", start(ingled, "--nul", "--bogus", env=env), 2, "Try: ingled --help")
    expect("argument", start(ingled, "model.gguf", env=env), 2, "unexpected argument")


def wrong_configuration(ingled, folder):
    env = dict(os.environ, HOME=str(folder))
    conf = folder / "wrong.conf"
    conf.write_text("[daemon]\n\n[model \"qwen-fim\"]\nkv_bit = 8\n")
    expect("config", start(ingled, "--null", "--config", str(conf), env=env), 2,
           f'{conf}:4: unknown key "kv_bit" in [model "qwen-fim"], did you mean "kv_bits"?')
    expect("no file", start(ingled, "--config", f"{folder}/absent.conf", env=env), 2,
           "cannot read", "No such file")


def twice(r):
    env = r.env
    code, text = start(r.ingled, "--null", env=env)
    expect("second ingled", (code, text), 1, f"another ingled (pid {r.process.pid})",
           "ingle shutdown")
    assert r.process.poll() is None


def no_models(r, folder):
    cases = {
        "empty": (b"", "empty.gguf"),
        "text": (b"this is no model at all, but a text" * 20, "text.gguf"),
        "cut": (b"GGUF\x03\x00\x00\x00" + b"\x05" + b"\x00" * 7 + b"\x01" + b"\x00" * 7,
                "cut.gguf"),
        "huge": (b"GGUF\x03\x00\x00\x00" + b"\xff" * 40, "huge.gguf"),
    }
    for name, (data, file) in cases.items():
        path = folder / file
        path.write_bytes(data)
        p = subprocess.run(r.command("load", str(path)), env=r.env, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=60, check=False)
        expect(f"{name} file", (p.returncode, p.stderr), 6, file)
        assert len(p.stderr.strip().splitlines()) == 1, p.stderr
    p = subprocess.run(r.command("load", "nowhere"), env=r.env, stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=60, check=False)
    expect("absent model", (p.returncode, p.stderr), 4, "nowhere")
    state = json.loads(r.ingle("ps", "--json"))
    assert [m["name"] for m in state["models"]] == ["null"], state["models"]
    assert {p["owner"] for p in state["memory"]["pools"]} == {"clients", "null"}, state["memory"]


def reload(r):
    conf = pathlib.Path(r.env["XDG_CONFIG_HOME"]) / "ingle" / "ingle.conf"
    conf.write_text("[daemon]\nlog_level = debug\nspin = 1\n")
    r.process.send_signal(signal.SIGHUP)
    wait_for(r, "reload-failed")
    assert 'unknown key "spin" in [daemon], did you mean "spin_us"?' in r.log(), r.log()
    conf.write_text("[daemon]\nlog_level = debug\n[model \"later\"]\nfile = later.gguf\n")
    r.process.send_signal(signal.SIGHUP)
    wait_for(r, "reload models=1")
    state = json.loads(r.ingle("ps", "--json"))
    assert state["ok"]


def wait_for(r, text):
    for _ in range(500):
        if text in r.log():
            return
        time.sleep(0.02)
    raise AssertionError(f"{text!r} is not in the log:\n{r.log()}")


def small_budget(ingled, ingle, models):
    with running.runtime(ingled, ingle, ["--null"], "[daemon]\nmemory = 96MiB\n") as r:
        wait_for(r, "load-done model=null")
        p = subprocess.run(r.command("load", models), env=r.env, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=60, check=False)
        expect("budget", (p.returncode, p.stderr), 5, "needs", "budget has", "held by", "Try:")
        assert json.loads(r.ingle("ps", "--json"))["ok"]


def main():
    ingled, ingle = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="ingle-daemon-") as name:
        folder = pathlib.Path(name)
        wrong_places(ingled, folder)
        wrong_configuration(ingled, folder)
        with running.runtime(ingled, ingle, ["--null"], "[daemon]\nlog_level = info\n") as r:
            wait_for(r, "load-done model=null")
            twice(r)
            no_models(r, folder)
            reload(r)
            assert r.socket.stat().st_mode & 0o777 == 0o600, oct(r.socket.stat().st_mode)
            r.process.send_signal(signal.SIGTERM)
            assert r.process.wait(10) == 0, r.log()
            assert not r.socket.exists()
        model = pathlib.Path(os.environ.get("INGLE_TEST_MODELS", "")) / \
            "smollm2-135m-instruct-q4_1.gguf"
        if os.environ.get("INGLE_TEST_MODELS") and model.is_file():
            small_budget(ingled, ingle, str(model))
    print("daemon: ok")


main()
