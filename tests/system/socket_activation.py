#!/usr/bin/env python3
"""ingled as systemd starts it: with a listening socket as descriptor 3 that was there before it and
stays after it. Listens and notifies as the manager would for tools/systemd/.
Usage: socket_activation.py INGLED INGLE"""
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import running


class Activated(running.Runtime):
    """A Runtime whose listening socket and notification socket are this process's."""

    listener = notifications = None

    def start(self, *command, **options):
        if self.listener is None:
            self.socket.parent.mkdir(mode=0o700)
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.listener.bind(str(self.socket))
            self.socket.chmod(0o600)
            self.listener.listen()
            path = self.folder / "notify"
            self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.notifications.bind(str(path))
            self.notifications.settimeout(10)
            self.env["NOTIFY_SOCKET"] = str(path)
        fd = self.listener.fileno()
        super().start(sys.executable, __file__, "--exec", str(fd), *command, pass_fds=[fd])

    def await_notification(self, word):
        while word not in self.notifications.recv(4096).decode().split("\n"):
            pass


def become(fd, command):
    """What the manager does between fork and exec."""
    os.dup2(fd, 3)
    if fd != 3:
        os.close(fd)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="ingled.socket")
    os.execv(command[0], command)


def serves_on_the_socket_that_it_is_given(r):
    state = json.loads(r.ingle("ps", "--json", timeout=20))
    assert state["ok"] and state["pid"] == r.process.pid, state
    assert state["socket"] == str(r.socket), state["socket"]
    assert stat.S_ISSOCK(os.stat(r.socket).st_mode)
    assert not r.socket.with_suffix(".sock.lock").exists()  # the manager keeps the place
    said = r.ingle("complete", "--tokens", "5", "activated", timeout=20)
    assert said == r.ingle("complete", "--tokens", "5", "activated", timeout=20) != b"", said


def goes_on_when_nobody_knocks(r):
    """A listening socket that blocks must not hold up the thread that listens."""
    for _ in range(3):
        assert json.loads(r.ingle("ps", "--json", timeout=20))["ok"]
        time.sleep(0.1)


def leaves_the_socket_where_it_was(r):
    r.process.send_signal(signal.SIGTERM)
    r.await_notification("STOPPING=1")
    assert r.process.wait(10) == 0, r.log()
    assert r.socket.exists()


def serves_who_came_before_it(r, ingled):
    """Nobody accepts yet: the client waits until the manager has started ingled for it."""
    early = r.popen("ps", "--json")
    time.sleep(0.5)
    assert early.poll() is None, early.stderr.read()
    r.start(ingled, "--null")
    r.await_notification("READY=1")
    out, err = early.communicate(timeout=20)
    assert early.returncode == 0, (err, r.log())
    assert json.loads(out)["pid"] == r.process.pid


def ignores_a_socket_meant_for_another_process(r, ingled):
    """LISTEN_PID of somebody else: ingled makes its own place, here one that is taken."""
    env = dict(r.env, LISTEN_FDS="1", LISTEN_PID="1", LISTEN_FDNAMES="ingled.socket")
    p = subprocess.run([ingled, "--null"], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=20, check=False)
    assert p.returncode == 1 and "a socket unit of systemd?" in p.stderr, p


def main():
    ingled, ingle = sys.argv[1:]
    # A unit with PassCredentials=yes hands that down to the accepted sockets.
    for passes_credentials in (False, True):
        with running.runtime(ingled, ingle, ["--null"], kind=Activated) as r:
            r.listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, passes_credentials)
            r.await_notification("READY=1")
            serves_on_the_socket_that_it_is_given(r)
            goes_on_when_nobody_knocks(r)
            ignores_a_socket_meant_for_another_process(r, ingled)
            leaves_the_socket_where_it_was(r)
            serves_who_came_before_it(r, ingled)
    print("socket_activation: ok")


if sys.argv[1] == "--exec":
    become(int(sys.argv[2]), sys.argv[3:])
main()
