"""A real ingled in directories of its own, for the system tests. Standard library only."""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time


def model_path(name):
    """The path of a test model, or exit 77 with the reason."""
    folder = os.environ.get("INGLE_TEST_MODELS", "")
    path = pathlib.Path(folder) / name
    if not folder or not path.is_file():
        print(f"SKIP: INGLE_TEST_MODELS holds no {name}")
        sys.exit(77)
    return str(path)


class Runtime:
    """One ingled and its environment; `ingle(...)` runs the command against it."""

    def __init__(self, ingled, ingle, folder, args=(), config=""):
        self.ingled, self.ingle_path, self.folder = ingled, ingle, pathlib.Path(folder)
        self.env = dict(os.environ, NO_COLOR="1")
        for name in ("RUNTIME_DIR", "DATA_HOME", "STATE_HOME", "CONFIG_HOME", "CACHE_HOME"):
            path = self.folder / name.lower()
            path.mkdir(mode=0o700, exist_ok=True)
            self.env["XDG_" + name] = str(path)
        self.env["HOME"] = str(self.folder)
        if config:
            conf = self.folder / "config_home" / "ingle"
            conf.mkdir()
            (conf / "ingle.conf").write_text(config)
        self.log_path = self.folder / "ingled.log"
        self.socket = self.folder / "runtime_dir" / "ingle" / "ingle.sock"
        self.start(ingled, *args)
        deadline = time.monotonic() + 20
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("ingled did not start:\n" + self.log())
            time.sleep(0.02)

    def start(self, *command, **options):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, **options)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def command(self, *args):
        return [self.ingle_path, *args]

    def popen(self, *args, **options):
        return subprocess.Popen(self.command(*args), env=self.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def ingle(self, *args, text=None, timeout=300, check=True):
        """The command's stdout, as bytes."""
        run = subprocess.run(self.command(*args), env=self.env, input=text, capture_output=True,
                             timeout=timeout, check=False)
        if check and run.returncode != 0:
            raise AssertionError(f"ingle {' '.join(args)}: exit {run.returncode}\n"
                                 f"{run.stderr.decode(errors='replace')}\n{self.log()}")
        return run.stdout

    def ps(self):
        return json.loads(self.ingle("ps", "--json"))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


@contextlib.contextmanager
def runtime(ingled, ingle, args=(), config="", kind=Runtime):
    """A running Runtime, ended and cleaned up whatever happens."""
    folder = tempfile.mkdtemp(prefix="ingle-test-")
    r = None
    try:
        r = kind(ingled, ingle, folder, args, config)
        yield r
    finally:
        code = r.stop() if r is not None else 0
        shutil.rmtree(folder, ignore_errors=True)
    if code != 0:
        raise AssertionError(f"ingled ended with {code}")
