#!/usr/bin/env python3
"""Count what meson ran: testlog.py LOG.json... -> `N passed, N failed, N skipped`.

A test program that reports its own tests (CMocka, unittest) counts with each of them, another one
as one. Failed tests are named with the end of what they printed. Exit 1 on a failure.
"""
import json
import re
import sys

CMOCKA = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] +(\w+)$", re.M)
UNITTEST = re.compile(r"^Ran (\d+) tests? in", re.M)
UNITTEST_RESULT = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$", re.M)


def inside(text):
    """(passed, failed, skipped) as the program itself says, or None."""
    cases = {}
    for result, name in CMOCKA.findall(text):
        cases[name] = result
    if cases:
        results = list(cases.values())
        return results.count("OK"), results.count("FAILED"), results.count("SKIPPED")
    ran = UNITTEST.findall(text)
    verdict = UNITTEST_RESULT.findall(text)
    if ran and verdict:
        counts = dict(re.findall(r"(\w+)=(\d+)", verdict[-1]))
        failed = int(counts.get("failures", 0)) + int(counts.get("errors", 0))
        skipped = int(counts.get("skipped", 0))
        return int(ran[-1]) - failed - skipped, failed, skipped
    return None


def main():
    passed = failed = skipped = 0
    for path in sys.argv[1:]:
        try:
            lines = open(path, encoding="utf-8", errors="replace").read().splitlines()
        except OSError as e:
            print(f"testlog: {e}", file=sys.stderr)
            failed += 1
            continue
        for line in lines:
            test = json.loads(line)
            text = test.get("stdout", "") + "\n" + test.get("stderr", "")
            result = test["result"]
            counts = inside(text)
            if result == "SKIP":
                skipped += 1
                reason = text.strip().splitlines()
                print(f"skipped: {test['name']}: {reason[-1] if reason else 'no reason given'}")
            elif result in ("OK", "EXPECTEDFAIL"):
                p, f, s = counts or (1, 0, 0)
                passed, failed, skipped = passed + p, failed + f, skipped + s
            else:
                p, f, s = counts or (0, 1, 0)
                passed, failed, skipped = passed + p, failed + max(f, 1), skipped + s
                print(f"failed: {test['name']} ({result})")
                for tail in text.strip().splitlines()[-15:]:
                    print(f"    {tail}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
