"""A comparison as tables of text, as TSV and as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tsjt_ds.analysis.comparison import Comparison, Row, Value
from tsjt_ds.analysis.significance import ALL, LEVEL
from tsjt_ds.text_table import align

Form = Callable[[Any], str]
FORMAT = "tsjt comparison 1"
"""Marks ``comparison.json`` as one of ours."""


@dataclass(frozen=True)
class Table:
    """Cells as they are shown."""

    title: str
    note: str
    """What the cells mean."""
    heads: list[str]
    rows: list[list[str]]

    def as_text(self) -> str:
        """Title, note, then the cells in columns."""
        return f"{self.title}. {self.note}\n\n{align([self.heads, *self.rows])}"


def compact(value: float) -> str:
    """Three digits and a unit: ``12.3M``."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


NAMES = {"bleu": "BLEU", "chrf": "chrF"}
"""Scores by the name of their columns."""
FIGURES: list[tuple[str, str, Form]] = [
    ("BLEU", "bleu", "{:.2f}".format),
    ("chrF", "chrf", "{:.2f}".format),
    ("BLEU low-res", "bleu_low_resource", "{:.2f}".format),
    ("chrF low-res", "chrf_low_resource", "{:.2f}".format),
    ("best dev", "best_dev_nll", "{:.4f}".format),
    ("at step", "best_dev_step", "{:,}".format),
    ("final dev", "final_dev_nll", "{:.4f}".format),
    ("parameters", "parameters", compact),
    ("steps", "steps", "{:,}".format),
    ("tokens", "target_tokens", compact),
    ("run FLOPs", "run_flops", compact),
    ("run time", "run_seconds", clock),
]
AGAINST: list[tuple[str, str, Form]] = [
    ("baseline", "baseline", str),
    ("BLEU", "bleu_difference", "{:+.2f}".format),
    ("p", f"bleu_p/{ALL}", "{:.3f}".format),
    ("chrF", "chrf_difference", "{:+.2f}".format),
    ("p", f"chrf_p/{ALL}", "{:.3f}".format),
    ("BLEU low-res", "bleu_difference_low_resource", "{:+.2f}".format),
    ("chrF low-res", "chrf_difference_low_resource", "{:+.2f}".format),
    ("steps to reach", "steps_ratio", "{:.2f}".format),
    ("tokens to reach", "target_tokens_ratio", "{:.2f}".format),
    ("FLOPs to reach", "flops_ratio", "{:.2f}".format),
    ("run compute", "compute_ratio", "{:.2f}".format),
]
FIGURES_NOTE = (
    "Scores are means over directions, dev losses means in nats a token; steps and tokens are "
    "those on the way to the capacity, FLOPs and time those of the whole run."
)
AGAINST_NOTE = (
    "Differences in mean score, with their p; what it took to come to the baseline's best dev "
    "loss, as a ratio to what the baseline took; run compute: the FLOPs of the run and its "
    "teachers, as a ratio to those of the baselines of all their capacities."
)
SEEDS = {
    "BLEU": ("bleu", ".2f"),
    "chrF": ("chrf", ".2f"),
    "best dev": ("best_dev_nll", ".4f"),
    "BLEU difference": ("bleu_difference", "+.2f"),
    "chrF difference": ("chrf_difference", "+.2f"),
}
"""Columns over seeds, and their forms."""
SEEDS_NOTE = (
    "Mean ± standard deviation of the runs that differ in their seed alone, named by the first; "
    "differences are to the baseline of each seed."
)


def main_tables(comparison: Comparison) -> list[Table]:
    """Each row's figures, how they stand to the baseline's, and what they are over seeds."""
    tables = [
        _table("Figures", FIGURES_NOTE, FIGURES, comparison),
        _table("Against the baselines", AGAINST_NOTE, AGAINST, comparison),
    ]
    return [*tables, _seeds_table(comparison)] if comparison.over_seeds else tables


def direction_tables(comparison: Comparison) -> list[Table]:
    """Scores by direction; none if nothing was scored."""
    if not comparison.directions:
        return []
    note = f"With the difference to the baseline; *: p < {LEVEL:g}."
    return [
        _by_direction(f"{name} by direction", note, metric, comparison)
        for metric, name in NAMES.items()
    ]


def as_text(comparison: Comparison) -> str:
    """The tables, then what they rest on."""
    shown = [*main_tables(comparison), *direction_tables(comparison)]
    blocks = [table.as_text() for table in shown]
    footer = remarks(comparison)
    return "\n\n".join([*blocks, "\n".join(footer)] if footer else blocks) + "\n"


def remarks(comparison: Comparison) -> list[str]:
    """What the tables rest on and what they lack, a line each."""
    lines = []
    if comparison.low_resource:
        lines.append(f"low-res: {', '.join(comparison.low_resource)}")
    for metric, signature in comparison.signatures.items():
        lines.append(f"p of {NAMES[metric]}: paired bootstrap, sacreBLEU {signature}")
    return lines + comparison.notes


def as_tsv(comparison: Comparison) -> str:
    """Every column of every row in full precision; empty: not known."""
    columns = list(dict.fromkeys(name for row in comparison.rows for name in row))
    lines = [columns, *([_exact(row.get(name)) for name in columns] for row in comparison.rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def as_json(comparison: Comparison) -> str:
    """Rows, means over seeds and curves."""
    values = {
        "format": FORMAT,
        "rows": comparison.rows,
        "over_seeds": comparison.over_seeds,
        "directions": comparison.directions,
        "low_resource": comparison.low_resource,
        "baselines": comparison.baselines,
        "signatures": comparison.signatures,
        "notes": comparison.notes,
        "curves": {
            run.label: {
                capacity: [asdict(point) for point in curve]
                for capacity, curve in run.curves.items()
            }
            for run in comparison.runs
        },
    }
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _table(
    title: str, note: str, columns: list[tuple[str, str, Form]], comparison: Comparison
) -> Table:
    heads = ["run", "capacity", *(head for head, _, _ in columns)]
    rows = [
        [*_name(row), *(_shown(row.get(key), form) for _, key, form in columns)]
        for row in comparison.rows
    ]
    return Table(title, note, heads, rows)


def _seeds_table(comparison: Comparison) -> Table:
    rows = [
        [*_name(row), str(row["seeds"]), str(row["n"])]
        + [_mean_and_deviation(row, *column) for column in SEEDS.values()]
        for row in comparison.over_seeds
    ]
    return Table("Over seeds", SEEDS_NOTE, ["run", "capacity", "seeds", "n", *SEEDS], rows)


def _mean_and_deviation(row: Row, name: str, form: str) -> str:
    """``20.10 ± 0.30``."""
    mean, deviation = row.get(name), row.get(f"{name}_sd")
    if mean is None or deviation is None:
        return "-"
    return f"{mean:{form}} ± {deviation:{form.removeprefix('+')}}"


def _by_direction(title: str, note: str, metric: str, comparison: Comparison) -> Table:
    rows = [
        [*_name(row), *(_score(row, metric, direction) for direction in comparison.directions)]
        for row in comparison.rows
        if row[metric] is not None
    ]
    return Table(title, note, ["run", "capacity", *comparison.directions], rows)


def _name(row: Row) -> list[str]:
    return [str(row["run"]), str(row["capacity"])]


def _score(row: Row, metric: str, direction: str) -> str:
    """``20.1 +0.5*``."""
    text = _shown(row.get(f"{metric}/{direction}"), "{:.1f}".format)
    difference = row.get(f"{metric}_difference/{direction}")
    if difference is None:
        return text
    p_value = row.get(f"{metric}_p/{direction}")
    star = "*" if isinstance(p_value, float) and p_value < LEVEL else " "
    return f"{text} {difference:+.1f}{star}"


def _shown(value: Value, form: Form) -> str:
    return "-" if value is None else form(value)


def _exact(value: Value) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
