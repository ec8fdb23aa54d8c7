#!/usr/bin/env python3
"""libingle.so exports the functions of ingle.h, all of them and nothing else.

Usage: test_symbols.py LIBRARY HEADER
"""
import re
import subprocess
import sys


def main() -> int:
    library, header = sys.argv[1:3]
    out = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True,
                         check=True).stdout
    shown = {line.split()[-1].partition("@")[0] for line in out.splitlines()}
    declared = set(re.findall(r"INGLE_API[^;(]*?\b(ingle_\w+)\(", open(header).read()))
    for name in sorted(shown - declared):
        print(f"{name}: exported, but not in ingle.h", file=sys.stderr)
    for name in sorted(declared - shown):
        print(f"{name}: in ingle.h, but not exported", file=sys.stderr)
    dynamic = subprocess.run(["readelf", "-d", library], capture_output=True, text=True,
                             check=True).stdout
    soname = re.search(r"SONAME.*\[(libingle\.so\.\d+)\]", dynamic)
    if soname is None:
        print("no soname with a version", file=sys.stderr)
    return 0 if shown == declared and declared and soname else 1


if __name__ == "__main__":
    sys.exit(main())
