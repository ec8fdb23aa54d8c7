#!/usr/bin/env python3
"""The packed image between runtimes: kept after the first load, read by the next, made anew when it
is damaged, never in anybody's way. Usage: kept_image.py INGLED INGLE
"""
import pathlib
import re
import shutil
import signal
import sys
import time

import running

INGLED, INGLE = sys.argv[1:]
MODEL = running.model_path("smollm2-135m-instruct-q4_1.gguf")


def events(r):
    """The image's lines in the log since the last start."""
    since = r.log().rpartition("start version=")[2]
    return re.findall(r" (image-[a-z-]+) ", since)


def wait_for(r, *wanted):
    for _ in range(1000):
        if events(r) == list(wanted):
            return
        time.sleep(0.02)
    raise AssertionError(f"not {wanted}:\n{r.log()}")


def answer(r, model):
    return r.ingle("run", "-m", model, "-n", "8", "What is the capital of France?")


def end(r, number=signal.SIGTERM):
    r.process.send_signal(number)
    code = r.process.wait(20)
    assert code == (0 if number == signal.SIGTERM else -number), (code, r.log())


def again(r, *args):
    """Another runtime in the same place."""
    end(r)
    r.start(INGLED, *args)
    for _ in range(1000):
        if r.socket.exists():
            return
        time.sleep(0.02)
    raise AssertionError(r.log())


def images(folder):
    return sorted(folder.glob("*.image*"))


def elsewhere(r):
    """A file that is not ours: its image lies in the cache."""
    kept = r.folder / "cache_home/ingle/images"
    model = r.folder / "elsewhere" / "some.gguf"
    model.parent.mkdir()
    shutil.copyfile(MODEL, model)
    first = answer(r, str(model))
    wait_for(r, "image-kept")
    image, = images(kept)
    assert image.name.startswith("some.gguf-") and image.suffix == ".image", image
    assert [p.name for p in model.parent.iterdir()] == ["some.gguf"]

    again(r)
    assert answer(r, str(model)) == first
    assert events(r) == [], r.log()

    with open(image, "r+b") as f:
        f.truncate(image.stat().st_size // 2)
    again(r)
    assert answer(r, str(model)) == first
    wait_for(r, "image-unusable", "image-kept")
    again(r)
    assert answer(r, str(model)) == first
    assert events(r) == [], r.log()

    image.unlink()
    image.parent.chmod(0o500)  # root writes there all the same
    again(r)
    assert answer(r, str(model)) == first
    for _ in range(1000):
        if events(r):
            break
        time.sleep(0.02)
    assert events(r) in (["image-not-kept"], ["image-kept"]), r.log()
    image.parent.chmod(0o700)


def own(r):
    """A model of our own: its image lies beside it and goes with it."""
    models = r.folder / "data_home/ingle/models"
    models.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(MODEL, models / "own.gguf")
    first = answer(r, "own")
    for n in range(6):  # ended or killed at some moment of the writing, or before, or after
        end(r, signal.SIGKILL if n % 2 else signal.SIGTERM)
        if n % 2 == 0:
            assert not list(models.glob("*.part")), images(models)
        for p in images(models):
            if p.suffix == ".image":
                p.unlink()
        if n % 2:
            r.socket.unlink(missing_ok=True)
        r.start(INGLED)
        while not r.socket.exists():
            time.sleep(0.01)
        r.ingle("load", "own")
        time.sleep(n * 0.02)
    assert answer(r, "own") == first
    again(r)
    assert answer(r, "own") == first
    for _ in range(1000):
        if len(images(models)) == 1 and images(models)[0].suffix == ".image":
            break
        time.sleep(0.02)
    assert [p.suffix for p in images(models)] == [".image"], images(models)
    assert b"own" in r.ingle("ls") and b".image" not in r.ingle("ls")
    r.ingle("rm", "own")
    assert list(models.iterdir()) == []


def switched_off(r):
    conf = pathlib.Path(r.env["XDG_CONFIG_HOME"]) / "ingle" / "ingle.conf"
    conf.write_text("[cache]\nimage_cache = no\n")
    again(r)
    before = images(r.folder / "cache_home/ingle/images")
    shutil.copyfile(MODEL, r.folder / "elsewhere" / "other.gguf")
    answer(r, str(r.folder / "elsewhere" / "other.gguf"))
    time.sleep(0.5)
    assert events(r) == [], r.log()
    assert images(r.folder / "cache_home/ingle/images") == before


def main():
    with running.runtime(INGLED, INGLE, config="[daemon]\nlog_level = info\n") as r:
        elsewhere(r)
        own(r)
        switched_off(r)
    print("kept_image: ok")


main()
