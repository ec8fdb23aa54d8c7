#!/usr/bin/env python3
"""Writes template_case_table.h: Python's letter case, printability and case context of every code
point, as runs. Usage: template_case.py > template_case_table.h (Python 3.11: Unicode 14)."""
import sys
import unicodedata

LAST = 0x110000


def chars():
    for cp in range(LAST):
        if not 0xD800 <= cp < 0xE000:
            yield cp, chr(cp)


def runs(points):
    """Sorted code points as (first, last, stride) with stride 1 or 2."""
    out = []
    for cp in points:
        if out:
            first, last, stride = out[-1]
            if first == last and cp - last in (1, 2):
                out[-1] = (first, cp, cp - last)
                continue
            if first != last and cp - last == stride:
                out[-1] = (first, cp, stride)
                continue
        out.append((cp, cp, 1))
    return out


def mapped(fn, but=lambda ch: ch):
    """Runs of code points that map to one code point at the same distance, and the longer maps,
    where they differ from what `but` says."""
    by_delta, special = {}, []
    for cp, ch in chars():
        to = fn(ch)
        if to == but(ch):
            continue
        if len(to) > 1:
            special.append((cp, [ord(c) for c in to]))
        else:
            by_delta.setdefault(ord(to) - cp, []).append(cp)
    out = [(f, l, s, d) for d, points in by_delta.items() for f, l, s in runs(points)]
    return sorted(out), special


def write(kind, name, rows, per_line):
    print(f"static const struct {kind} {name}[] = {{")
    for i in range(0, len(rows), per_line):
        print("    " + ", ".join(rows[i:i + per_line]) + ",")
    print("};")


def sigma_ends(text):
    return (text + "\u03a3").lower().endswith("\u03c2")


def main():
    print("/* Written by template_case.py from Unicode " + unicodedata.unidata_version +
          "; do not edit. */")
    print("/* clang-format off */")
    upper, upper_long = mapped(str.upper)
    lower, lower_long = mapped(str.lower)
    title, title_long = mapped(str.title, str.upper)
    for name, rows in (("to_upper", upper), ("to_lower", lower), ("to_title", title)):
        write("case_map", name, ["{0x%x, 0x%x, %d, %d}" % r for r in rows], 3)
    for name, rows in (("long_upper", upper_long), ("long_lower", lower_long),
                       ("long_title", title_long)):
        write("case_long", name,
              ["{0x%x, {%s}}" % (cp, ", ".join("0x%x" % c for c in to)) for cp, to in rows], 2)
    sets = {
        "uppercase": lambda c: c.isupper(),
        "lowercase": lambda c: c.islower(),
        "titlecase": lambda c: unicodedata.category(c) == "Lt",
        "cased": lambda c: (c + "a").title()[-1] == "a",
        "case_ignorable": lambda c: sigma_ends("A" + c) and not sigma_ends(c),
        "unprintable": lambda c: not c.isprintable(),
    }
    for name, test in sets.items():
        rows = runs([cp for cp, ch in chars() if test(ch)])
        write("case_run", name, ["{0x%x, 0x%x, %d}" % r for r in rows], 4)
    print("/* clang-format on */")


if __name__ == "__main__":
    sys.exit(main())
