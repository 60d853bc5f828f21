"""What a preparation notes about itself."""

import importlib.metadata
import json
import unicodedata
from pathlib import Path

import tsjt_ds
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.checksums import FileRecord, file_record
from tsjt_ds.data.distilled import distillations
from tsjt_ds.data.preparation.progress import Say
from tsjt_ds.data.prepared import (
    CHECKSUMS,
    CLEANING,
    CLEANING_TEXT,
    MANIFEST,
    PREPARATION_RULES,
    RULES,
    Manifest,
    PairRecord,
    preparation_config,
)
from tsjt_ds.data.report import PairReport, format_markdown, format_table, total

Reports = dict[str, dict[str, dict[str, PairReport]]]
"""By split, language pair and the corpus' recipe key."""

_PACKAGES = ("sentencepiece", "langcodes", "regex", "numpy")


def versions(recipe: Recipe) -> dict[str, str]:
    """The versions of what decides the prepared bytes."""
    identifies = recipe.data.cleaning.language_identification > 0.0
    packages = (*_PACKAGES, "py3langid") if identifies else _PACKAGES
    return {
        "tsjt_ds": tsjt_ds.__version__,
        RULES: PREPARATION_RULES,
        "unicode": unicodedata.unidata_version,
        **{name: importlib.metadata.version(name) for name in packages},
    }


def write_reports(directory: Path, reports: Reports, say: Say) -> None:
    """Write ``cleaning.json`` and ``cleaning.md``, and say what is in them."""
    totals = {
        split: {pair: total(by_key.values()) for pair, by_key in by_pair.items()}
        for split, by_pair in reports.items()
    }
    values = {
        split: {
            pair: report.as_json()
            | {"corpora": {key: r.as_json() for key, r in reports[split][pair].items()}}
            for pair, report in by_pair.items()
        }
        for split, by_pair in totals.items()
    }
    text = json.dumps(values, indent=2, ensure_ascii=False)
    (directory / CLEANING).write_text(text + "\n", encoding="utf-8")
    parts = ["# Cleaning\n"]
    for split, by_pair in reports.items():
        rows = {f"{pair} {key}": r for pair, by_key in by_pair.items() for key, r in by_key.items()}
        parts.append(format_markdown(split, rows))
    (directory / CLEANING_TEXT).write_text("\n".join(parts), encoding="utf-8")
    say(format_table(totals["train"]))
    for split, found in totals.items():
        for pair, report in found.items():
            if report.places:
                say(f"{split} {pair}: {report.reasons()}")
    say(f"samples of what was left out: {CLEANING_TEXT}")


def write_manifest(
    directory: Path,
    recipe: Recipe,
    inputs: dict[str, FileRecord],
    pairs: dict[str, PairRecord],
) -> None:
    """Write the manifest, with the checksums of all files that are there."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    ours = (CHECKSUMS, MANIFEST)  # The latter is of a preparation that was killed behind it.
    manifest = Manifest(
        config=preparation_config(recipe),
        inputs=inputs,
        files={path.name: file_record(path) for path in files if path.name not in ours},
        pairs=pairs,
        languages=recipe.data.languages,
        vocab_size=recipe.tokenizer.vocab_size,
        versions=versions(recipe),
        distilled=distillations(recipe.data),
    )
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
