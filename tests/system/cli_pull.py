#!/usr/bin/env python3
"""`ingle pull`, `ls` and `rm` against a local server with the hub's paths. Usage: cli_pull.py INGLE

No network: models are a few hundred kilobytes that begin as GGUF files do.
"""
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

INGLE = sys.argv.pop(1)
MODEL = b"GGUF" + bytes(range(256)) * 1200
OTHER = b"GGUF" + bytes(reversed(range(256))) * 700


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """The two paths of a hub, a redirect to a store, ranges, and failures that tests ask for."""

    protocol_version = "HTTP/1.1"
    files = {"owner/repo": {"small.Q4_K_M.gguf": MODEL, "small.Q8_0.gguf": OTHER, "a.md": b"x"},
             "owner/one": {"sub/only.gguf": OTHER}}
    ranges = True
    cut_after = None  # bytes after which the next answer's connection ends
    requests = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        Hub.requests.append((self.path, self.headers["Range"], self.headers["Authorization"]))
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            return self.listing(path[len("/api/models/"):])
        if path.startswith("/store/"):
            repo, _, name = path[len("/store/"):].partition("/resolve/main/")
            return self.blob(Hub.files.get(repo, {}).get(name))
        if "/resolve/main/" in path:
            self.send_response(302)
            self.send_header("Location", "/store" + path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return self.blob(None)

    def listing(self, repo):
        if repo not in Hub.files:
            return self.blob(None)
        siblings = [{"rfilename": n, "lfs": {"sha256": sha256(d), "size": len(d)}}
                    for n, d in Hub.files[repo].items()]
        return self.whole(json.dumps({"id": repo, "siblings": siblings}).encode(), 200)

    def whole(self, data, status):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def blob(self, data):
        if data is None:
            return self.whole(b"no such thing", 404)
        start, status = 0, 200
        wanted = self.headers.get("Range")
        if wanted and Hub.ranges:
            start, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        body = data[start:]
        if Hub.cut_after is not None:
            body, Hub.cut_after = body[:Hub.cut_after], None
            self.close_connection = True
        self.wfile.write(body)
        return None


class Pull(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        cls.server.handle_error = lambda *_: None  # a client that leaves is no error here
        cls.base = f"http://127.0.0.1:{cls.server.server_port}"
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.home = pathlib.Path(self.folder.name)
        self.models = self.home / ".local/share/ingle/models"
        config = self.home / ".config/ingle"
        config.mkdir(parents=True)
        (config / "ingle.conf").write_text(f"[hub]\nbase = {self.base}/\n")
        Hub.ranges, Hub.cut_after, Hub.requests = True, None, []

    def tearDown(self):
        self.folder.cleanup()

    def ingle(self, *args, status=0, **env):
        """Run the command; check its exit status; give back (stdout, stderr)."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), **env}
        done = subprocess.run([INGLE, *args], env=environment, capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout, done.stderr

    def names(self):
        return sorted(m["name"] for m in json.loads(self.ingle("ls", "--json")[0]))

    def test_a_file_of_the_hub_arrives_checked_under_its_name(self):
        out, _ = self.ingle("pull", "hf:owner/repo/small.Q8_0.gguf")
        self.assertEqual(out.strip(), str(self.models / "small.Q8_0.gguf"))
        self.assertEqual((self.models / "small.Q8_0.gguf").read_bytes(), OTHER)
        self.assertEqual(self.names(), ["small.Q8_0"])

    def test_without_a_file_name_the_only_or_the_q4_k_m_is_taken(self):
        self.ingle("pull", "hf:owner/one")
        self.ingle("pull", "hf:owner/repo")
        self.assertEqual(self.names(), ["only", "small.Q4_K_M"])

    def test_an_unknown_file_lists_what_there_is(self):
        _, err = self.ingle("pull", "hf:owner/repo/tiny.gguf", status=4)
        self.assertIn("small.Q8_0.gguf", err)
        self.ingle("pull", "hf:owner/nothing", status=4)
        self.assertEqual(self.names(), [])

    def test_a_cut_download_goes_on_where_it_stopped(self):
        Hub.cut_after = 100000
        self.ingle("pull", "hf:owner/repo/small.Q4_K_M.gguf")
        self.assertIn("bytes=100000-", [r for _, r, _ in Hub.requests])
        self.assertEqual((self.models / "small.Q4_K_M.gguf").read_bytes(), MODEL)

    def test_a_part_of_an_earlier_attempt_is_used(self):
        self.models.mkdir(parents=True)
        (self.models / "small.Q4_K_M.gguf.part").write_bytes(MODEL[:5000])
        self.ingle("pull", "hf:owner/repo/small.Q4_K_M.gguf")
        self.assertIn("bytes=5000-", [r for _, r, _ in Hub.requests])
        self.assertFalse((self.models / "small.Q4_K_M.gguf.part").exists())

    def test_a_whole_part_needs_only_its_checksum(self):
        self.models.mkdir(parents=True)
        (self.models / "small.Q4_K_M.gguf.part").write_bytes(MODEL)
        self.ingle("pull", "hf:owner/repo/small.Q4_K_M.gguf")
        self.assertEqual(self.names(), ["small.Q4_K_M"])

    def test_a_server_without_ranges_begins_anew(self):
        self.models.mkdir(parents=True)
        (self.models / "small.Q4_K_M.gguf.part").write_bytes(b"GGUF and something else")
        Hub.ranges = False
        self.ingle("pull", "hf:owner/repo/small.Q4_K_M.gguf")
        self.assertEqual((self.models / "small.Q4_K_M.gguf").read_bytes(), MODEL)

    def test_a_part_of_another_file_is_refused_and_removed(self):
        self.models.mkdir(parents=True)
        (self.models / "small.Q4_K_M.gguf.part").write_bytes(b"not the beginning")
        _, err = self.ingle("pull", "hf:owner/repo/small.Q4_K_M.gguf", status=6)
        self.assertIn("SHA-256", err)
        self.assertEqual(list(self.models.iterdir()), [])

    def test_the_hub_token_is_sent_to_the_hub(self):
        self.ingle("pull", "hf:owner/one", HF_TOKEN="secret")
        self.assertEqual(Hub.requests[0][2], "Bearer secret")

    def test_a_url_needs_a_checksum_and_is_held_to_it(self):
        url = self.base + "/store/owner/one/resolve/main/sub/only.gguf"
        self.ingle("pull", url, status=2)
        self.ingle("pull", url, "--sha256", "zz", status=2)
        _, err = self.ingle("pull", url, "--sha256", sha256(MODEL), status=6)
        self.assertIn(sha256(OTHER), err)
        self.assertEqual(self.names(), [])
        self.ingle("pull", url, "--sha256", sha256(OTHER).upper(), "--name", "mine")
        self.assertEqual(self.names(), ["mine"])

    def test_a_second_pull_verifies_and_returns(self):
        self.ingle("pull", "hf:owner/one")
        before = len(Hub.requests)
        out, _ = self.ingle("pull", "hf:owner/one")
        self.assertEqual(out.strip(), str(self.models / "only.gguf"))
        self.assertEqual([r for r in Hub.requests[before:] if "/resolve/" in r[0]], [])

    def test_what_is_no_gguf_file_is_refused(self):
        Hub.files["owner/bad"] = {"bad.gguf": b"<html>sorry</html>"}
        _, err = self.ingle("pull", "hf:owner/bad", status=6)
        self.assertIn("not a GGUF file", err)
        text = self.home / "text.gguf"
        text.write_text("hello")
        self.ingle("pull", str(text), status=6)
        self.assertEqual(self.names(), [])

    def test_a_local_file_is_linked_not_copied(self):
        file = self.home / "My-Model.gguf"
        file.write_bytes(MODEL)
        self.ingle("pull", str(file))
        self.ingle("pull", str(file))
        self.assertEqual(file.stat().st_ino, (self.models / "My-Model.gguf").stat().st_ino)
        other = self.home / "elsewhere" / "My-Model.gguf"
        other.parent.mkdir()
        other.write_bytes(OTHER)
        self.ingle("pull", str(other), status=5)
        self.ingle("pull", str(other), "--name", "second")
        self.assertEqual(self.names(), ["My-Model", "second"])
        self.ingle("rm", "My-Model", "second")
        self.assertEqual(self.names(), [])
        self.assertEqual(file.read_bytes(), MODEL)

    def test_names_stay_inside_the_store(self):
        file = self.home / "a.gguf"
        file.write_bytes(MODEL)
        for name in ("../x", ".hidden", "a/b", "-x", "a b", ""):
            self.ingle("pull", str(file), "--name=" + name, status=2)
        self.ingle("rm", "../../../../.config/ingle/ingle.conf", status=4)
        self.assertTrue((self.home / ".config/ingle/ingle.conf").exists())

    def test_the_stores_of_others_are_listed_where_they_are(self):
        hub = self.home / ".cache/huggingface/hub/models--owner--my-repo"
        (hub / "blobs").mkdir(parents=True)
        (hub / "blobs/abc").write_bytes(MODEL)
        (hub / "snapshots/rev").mkdir(parents=True)
        (hub / "snapshots/rev/m.gguf").symlink_to("../../blobs/abc")
        studio = self.home / ".lmstudio/models/pub/repo"
        studio.mkdir(parents=True)
        (studio / "x.gguf").write_bytes(OTHER)
        (studio / "broken.gguf").write_bytes(b"no")
        ollama = self.home / ".ollama/models"
        (ollama / "manifests/registry.ollama.ai/library/qwen").mkdir(parents=True)
        (ollama / "blobs").mkdir()
        (ollama / "blobs/sha256-77").write_bytes(MODEL)
        kind = "application/vnd.ollama.image."
        (ollama / "manifests/registry.ollama.ai/library/qwen/0.5b").write_text(json.dumps(
            {"layers": [{"mediaType": kind + "template", "digest": "sha256:1"},
                        {"mediaType": kind + "model", "digest": "sha256:77"}]}))
        found = {m["name"]: m for m in json.loads(self.ingle("ls", "--json")[0])}
        self.assertEqual(sorted(found), ["hf:owner/my-repo/m.gguf", "lmstudio:pub/repo/x.gguf",
                                         "ollama:qwen:0.5b"])
        self.assertEqual(pathlib.Path(found["ollama:qwen:0.5b"]["path"]).read_bytes(), MODEL)
        self.assertEqual(found["lmstudio:pub/repo/x.gguf"]["bytes"], len(OTHER))
        self.assertFalse(self.models.exists())

    def test_two_pulls_of_one_name_do_not_mix(self):
        self.models.mkdir(parents=True)
        holder = subprocess.Popen(["flock", str(self.models / "only.gguf.part"), "sleep", "20"])
        try:
            for _ in range(100):
                busy = subprocess.run(["flock", "-n", str(self.models / "only.gguf.part"), "true"],
                                      check=False).returncode
                if busy:
                    break
            _, err = self.ingle("pull", "hf:owner/one", status=5)
            self.assertIn("another process", err)
        finally:
            holder.kill()
            holder.wait()


class Words(unittest.TestCase):
    def run_words(self, *args):
        return subprocess.run([INGLE, *args], capture_output=True, text=True, timeout=20,
                              check=False)

    def test_a_mistyped_word_is_answered_with_the_nearest(self):
        self.assertIn('did you mean "pull"', self.run_words("pul").stderr)
        self.assertIn("did you mean --json", self.run_words("ls", "--jsn").stderr)
        self.assertIn('did you mean "smollm2-135m"', self.run_words("pull", "smollm2-135").stderr)
        for args in (["nonsense"], ["ls", "-x"], ["ls", "too", "many"], ["pull"],
                     ["pull", "x", "--name"], ["ls", "--json=1"]):
            self.assertEqual(self.run_words(*args).returncode, 2, args)

    def test_every_verb_has_help_and_completion(self):
        verbs = [line.split()[0] for line in self.run_words("help").stdout.splitlines()
                 if line.startswith("  ") and line.split()[0] != "ingle"]
        self.assertIn("completion", verbs)
        scripts = [self.run_words("completion", s).stdout for s in ("bash", "zsh", "fish")]
        for verb in verbs:
            self.assertIn("usage: ingle " + verb, self.run_words("help", verb).stdout)
            self.assertIn("usage: ingle " + verb, self.run_words(verb, "--help").stdout)
            for script in scripts:
                self.assertIn(verb, script)

    def test_the_bash_completion_is_valid_and_completes_verbs(self):
        script = self.run_words("completion", "bash").stdout
        words = subprocess.run(["bash", "-c", script + "\nCOMP_WORDS=(ingle ver) COMP_CWORD=1\n"
                                "_ingle; echo ${COMPREPLY[@]}"], capture_output=True, text=True,
                               check=True).stdout
        self.assertEqual(words.strip(), "version")


if __name__ == "__main__":
    unittest.main()
