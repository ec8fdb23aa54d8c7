#!/usr/bin/env python3
"""Run a test program where it may choose the pids of its children: in pid and user namespaces of
its own. Usage: own_pids.py PROGRAM ARGUMENT..."""
import os
import shutil
import subprocess
import sys

UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child",
           "--mount-proc"]


def main():
    if shutil.which("unshare") is None:
        print("skipped: there is no unshare (util-linux)")
        sys.exit(77)
    p = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if p.returncode != 0:
        print(f"skipped: no pid namespace of one's own here: {p.stderr.strip()}")
        sys.exit(77)
    os.execvp("unshare", [*UNSHARE, *sys.argv[1:]])


main()
