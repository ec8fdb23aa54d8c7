"""report.py LINES: JSON lines of tools/bench to one self-contained page on standard output. Bars
show how far a row is on the way to its goal, the mark where its floor is; where there are no goals,
ours beside the peer's."""
import html
import json
import sys

STYLE = """
:root { --ink: #1d2430; --soft: #667085; --line: #e4e7ec; --back: #fff; --good: #2e7d5b;
  --fair: #c98a1b; --bad: #c0392b; --peer: #9aa5b8 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2b3340;
  --back: #12161d; --good: #4cc38a; --fair: #e0b04a; --bad: #ec6a5e; --peer: #566176 } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 76rem; margin: 2.5rem auto; padding: 0 1.5rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p { color: var(--soft); margin: .3rem 0 }
table { border-collapse: collapse; width: 100% }
th { font-weight: 500; color: var(--soft); text-align: right; font-size: .85rem }
td { text-align: right; font-variant-numeric: tabular-nums; border-top: 1px solid var(--line) }
th, td { padding: .3rem .5rem; white-space: nowrap } th:first-child, td:first-child
  { text-align: left; padding-left: 0 } td.plot { width: 260px }
td:last-child { text-align: left; white-space: normal }
svg { display: block } text { font: 11px system-ui, sans-serif; fill: var(--soft) }
.good { color: var(--good); fill: var(--good) } .fair { color: var(--fair); fill: var(--fair) }
.bad { color: var(--bad); fill: var(--bad) } .none { fill: var(--peer) } .peer { fill: var(--peer) }
.floor { stroke: var(--ink); stroke-width: 2 } .goal { stroke: var(--soft); stroke-width: 1;
  stroke-dasharray: 3 2 }
"""
WIDTH, HEIGHT = 260, 22


def short(x):
    return "–" if x is None else f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def reached(row, bar):
    if row["value"] is None or row[bar] is None:
        return None
    return row["value"] >= row[bar] if row["better"] == "higher" else row["value"] <= row[bar]


def verdict(row):
    if reached(row, "goal"):
        return "good", "goal"
    if reached(row, "floor") is None:
        return "none", ""
    return ("fair", "floor") if reached(row, "floor") else ("bad", "below the floor")


def line(kind, x):
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="1" y2="{HEIGHT - 1}"/>'


def bar(kind, width, y=5, height=12):
    return f'<rect class="{kind}" x="0" y="{y}" width="{width:.1f}" height="{height}" rx="2"/>'


def plot(row):
    """The value with its floor and goal; else ours above the peer's."""
    value, marks = row["value"], [row["floor"], row["goal"]]
    parts = []
    if value is not None and any(m is not None for m in marks):
        full = max([value] + [m for m in marks if m is not None]) * 1.05
        parts.append(bar(verdict(row)[0], WIDTH * value / full))
        parts += [line(kind, WIDTH * m / full)
                  for kind, m in zip(("floor", "goal"), marks) if m is not None]
    elif row["ours"] is not None and row["peer"] is not None:
        full = max(row["ours"], row["peer"]) * 1.05
        parts.append(bar("good", WIDTH * row["ours"] / full, 2, 8))
        parts.append(bar("peer", WIDTH * row["peer"] / full, 12, 8))
    return f'<svg width="{WIDTH}" height="{HEIGHT}">{"".join(parts)}</svg>'


def table_row(row):
    kind, words = verdict(row)
    spread = "–" if row["spread"] is None else f"{100 * row['spread']:.0f} %"
    cells = [f"{short(row['value'])} {html.escape(row['unit'])}", short(row["floor"]),
             short(row["goal"]), short(row["ours"]), short(row["peer"]), spread,
             short(row["quality"]), short(row["peer_quality"])]
    return (f'<tr><td>{html.escape(row["row"])}</td><td class="plot">{plot(row)}</td>'
            + "".join(f"<td>{c}</td>" for c in cells)
            + f'<td class="{kind}">{html.escape(row.get("note") or words)}</td></tr>')


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = [json.loads(text) for text in file]
    heads = ["row", "value | floor, goal dashed", "value", "floor", "goal", "ours", "peer",
             "spread", "our error", "peer's error", ""]
    out = ['<!doctype html><html lang="en"><meta charset="utf-8"><title>Ingle bench</title>',
           f"<style>{STYLE}</style><h1>Ingle bench</h1>",
           f"<p>{html.escape(rows[0]['cpu']) if rows else 'no rows'}</p>",
           "<p>A ratio is the median of the alternations' ratios, spread (largest − smallest) / "
           "median. Error: mean |Δ log p| against an independent float32 implementation.</p>"]
    for suite in dict.fromkeys(row["suite"] for row in rows):
        out.append(f"<h2>{html.escape(suite)}</h2><table><tr>"
                   + "".join(f"<th>{h}</th>" for h in heads) + "</tr>")
        out += [table_row(row) for row in rows if row["suite"] == suite]
        out.append("</table>")
    print("\n".join(out) + "</html>")


if __name__ == "__main__":
    main()
