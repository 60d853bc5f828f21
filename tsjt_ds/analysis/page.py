"""A comparison as one HTML page that needs no other file."""

from collections.abc import Iterator
from html import escape

from tsjt_ds.analysis.comparison import Comparison
from tsjt_ds.analysis.plots import bleu_plot, compute_plot, dev_loss_plot, run_colours
from tsjt_ds.analysis.tables import Table, direction_tables, main_tables, remarks

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; }
body { padding: 0 1rem; }
h2 { margin: 2.2rem 0 .4rem; font-size: 1.15rem; }
p { max-width: 50rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; }
th { border-bottom: 1px solid; vertical-align: bottom; }
td { border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
figure { margin: 0; }
svg { width: 100%; height: auto; }
.run { display: inline-block; width: .7em; height: .7em; margin-right: .4em; }
.runs { columns: 16rem; padding: 0 0 0 1.6rem; }
"""


def html_page(comparison: Comparison) -> str:
    """Tables, remarks and plots."""
    colours = run_colours([run.label for run in comparison.runs])
    blocks = [_html_table(table, colours) for table in main_tables(comparison)]
    blocks.append("".join(f"<p>{escape(line)}</p>\n" for line in remarks(comparison)))
    blocks.append(_legend(comparison, colours))
    blocks += [_figure(title, svg) for title, svg in _plots(comparison) if svg]
    blocks += [_html_table(table, colours) for table in direction_tables(comparison)]
    title = f"{len(comparison.runs)} runs compared"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        + "\n".join(blocks)
        + "</body>\n</html>\n"
    )


def _plots(comparison: Comparison) -> Iterator[tuple[str, str | None]]:
    capacities = list(dict.fromkeys(name for run in comparison.runs for name in run.capacities))
    for capacity in capacities:
        yield (
            f"Dev loss of {capacity} (the steep start is cut off)",
            dev_loss_plot(comparison, capacity),
        )
    for capacity in capacities:
        yield f"BLEU of {capacity} by direction", bleu_plot(comparison, capacity)
    yield (
        "Compute (paler: capacities that continued alone, then teachers; upright line: apart)",
        compute_plot(comparison),
    )


def _html_table(table: Table, colours: dict[str, str]) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in table.heads)
    rows = "".join(
        f"<tr><td>{_chip(run, colours)}</td>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for run, *cells in table.rows
    )
    return (
        f"<h2>{escape(table.title)}</h2>\n<p>{escape(table.note)}</p>\n"
        f'<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody></table></div>"
    )


def _legend(comparison: Comparison, colours: dict[str, str]) -> str:
    items = "".join(
        f"<li>{_chip(run.label, colours)}"
        + (" (baseline, dashed)" if run.label in comparison.baselines else "")
        + "</li>\n"
        for run in comparison.runs
    )
    return f'<h2>Runs</h2>\n<ol class="runs">\n{items}</ol>'


def _chip(run: str, colours: dict[str, str]) -> str:
    return f'<span class="run" style="background: {colours[run]}"></span>{escape(run)}'


def _figure(title: str, svg: str) -> str:
    return f"<h2>{escape(title)}</h2>\n<figure>\n{svg}</figure>"
