"""The LO10 corpus, which is too large for the repository."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "data" / "lo10"
LO10 = Path(os.environ.get("TSJT_LO10") or _BESIDE)
"""Holds ``{train,dev,test}.en-xx.tsv.gz``."""

needs_lo10 = pytest.mark.skipif(
    not LO10.is_dir(), reason=f"no LO10 corpus in {LO10} (set TSJT_LO10 to its directory)"
)
