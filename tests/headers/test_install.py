#!/usr/bin/env python3
"""What `meson install` puts down is enough to build a client: the example, against the installed
header, library and pkg-config file only, shared and static.

Usage: test_install.py BUILD SOURCE      BUILD is configured and built
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile


def run(*command, env=None, expect=0):
    p = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if p.returncode != expect:
        raise AssertionError(f"{' '.join(command)}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p.stdout.strip() + p.stderr.strip()


def main():
    build, source = sys.argv[1:3]
    for tool in ("meson", "pkg-config", "cc"):
        if shutil.which(tool) is None:
            print(f"SKIP: {tool} is not installed")
            sys.exit(77)
    if any(flag in (pathlib.Path(build) / "meson-info/intro-buildoptions.json").read_text()
           for flag in ('"value": "address', '"value": "thread', '"value": "memory')):
        print("SKIP: a library with a sanitizer in it asks its programs for the same")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", folder)
        pc = next(root.rglob("ingle.pc"), None)
        assert pc is not None, "no ingle.pc"
        env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=folder,
                   XDG_RUNTIME_DIR=folder, LC_ALL="C")
        text = (pathlib.Path(source) / "clients/examples/hello.c").read_text()
        program = root / "hello.c"
        program.write_text(text)
        flags = run("pkg-config", "--cflags", "--libs", "ingle", env=env).split()
        run("cc", str(program), "-o", str(root / "shared"), *flags)
        archive = next(root.rglob("libingle.a"))
        run("cc", str(program), "-o", str(root / "static"), str(archive),
            *run("pkg-config", "--cflags", "ingle", env=env).split())
        env["LD_LIBRARY_PATH"] = str(archive.parent)
        for name in ("shared", "static"):
            said = run(str(root / name), env=env, expect=3)
            assert "no runtime is listening" in said, said
        needed = run("readelf", "-d", str(root / "shared"))
        assert "[libingle.so.0]" in needed, needed
        assert not list(root.rglob("layout.h")), "shm/ is not for clients"


main()
