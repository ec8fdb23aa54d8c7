#!/usr/bin/env python3
"""Each public header compiles alone, twice, as C11 and as C++17, without a warning.

Usage: test_headers.py ROOT HEADER...    HEADER relative to ROOT
clients/c/ingle.h is also compiled as a client finds it: installed, without this tree. shm/layout.h
is also compiled for the ABIs that its assertions are about, where a compiler for them is here.
"""
import shutil
import subprocess
import sys
import tempfile
import pathlib

WARN = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wundef", "-Werror"]
ABIS = [
    ("gcc", ["-m32", "-ffreestanding"]),
    ("clang", ["--target=i386-linux-gnu", "-ffreestanding"]),
    ("clang", ["--target=aarch64-linux-gnu", "-ffreestanding"]),
]


def main() -> int:
    root = pathlib.Path(sys.argv[1]).resolve()
    failed = n = 0

    def compile_text(text, suffix, flags):
        nonlocal failed, n
        compiler, *flags = flags
        if shutil.which(compiler) is None:
            return
        n += 1
        with tempfile.NamedTemporaryFile("w", suffix=suffix) as f:
            f.write(text)
            f.flush()
            r = subprocess.run([compiler, "-fsyntax-only", *WARN, *flags, f.name],
                               capture_output=True, text=True)
        if r.returncode != 0:
            failed += 1
            print(f"{compiler} {' '.join(flags)}: {text}{r.stderr}", file=sys.stderr)

    for header in sys.argv[2:]:
        text = f'#include "{header}"\n' * 2
        for cc, cxx in (("gcc", "g++"), ("clang", "clang++")):
            compile_text(text, ".c", [cc, "-std=c11", f"-I{root}"])
            compile_text(text, ".cc", [cxx, "-std=c++17", f"-I{root}"])
    with tempfile.TemporaryDirectory() as installed:
        shutil.copy(root / "clients/c/ingle.h", installed)
        compile_text("#include <ingle.h>\n", ".c", ["gcc", "-std=c11", f"-I{installed}"])
        compile_text("#include <ingle.h>\n", ".cc", ["g++", "-std=c++17", f"-I{installed}"])
    for compiler, flags in ABIS:
        compile_text('#include "shm/layout.h"\n', ".c", [compiler, "-std=c11", f"-I{root}", *flags])
    print(f"{n} compilations, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
