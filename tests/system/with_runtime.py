#!/usr/bin/env python3
"""Run a test program against an ingled with the null engine: PROGRAM SOCKET.
Usage: with_runtime.py INGLED INGLE PROGRAM"""
import subprocess
import sys

import running


def main():
    with running.runtime(sys.argv[1], sys.argv[2], ["--null"]) as r:
        socket = str(r.socket)
        done = subprocess.run([sys.argv[3], socket], timeout=100, check=False)
        assert done.returncode == 0, r.log()


if __name__ == "__main__":
    main()
