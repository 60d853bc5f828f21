"""Training text that ``tsjt distil`` wrote."""

import json
from typing import Any

from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.corpora import corpora_of

RECORD = "distil.json"
"""Lies beside the text, and says how it was made."""


def distillations(config: DataConfig) -> list[dict[str, Any]]:
    """What the records beside a recipe's training files say but their progress; often none."""
    corpora = [corpus for pair in config.pairs for corpus in corpora_of(config, "train", pair)]
    directories = dict.fromkeys(path.parent for corpus in corpora for path in corpus.paths)
    found = []
    for directory in directories:
        try:
            record = dict(json.loads((directory / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        found.append({key: value for key, value in record.items() if key != "directions"})
    return found
