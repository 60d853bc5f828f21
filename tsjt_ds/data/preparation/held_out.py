"""The text of dev and test sets: kept as it is, and kept out of training."""

from pathlib import Path

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.cleaning import match_key, normalise
from tsjt_ds.data.corpora import corpora_of
from tsjt_ds.data.prepared import HELD_OUT_SPLITS, bitext_file, read_bitext
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import BEYOND_LIMIT, EMPTY, PairReport


def copy_held_out(
    config: DataConfig, split: str, direction: str, directory: Path
) -> dict[str, PairReport]:
    """Write the dev or test text of a direction as it stands: references are not normalised.

    Returns what was read and kept of each corpus.

    Raises:
        UserError: see :func:`tsjt_ds.data.readers.read_pairs`.
    """
    reports = {}
    path = bitext_file(directory, split, direction)
    with path.open("w", encoding="utf-8", newline="\n", errors="replace") as out:
        for corpus in corpora_of(config, split, direction):
            report = reports[corpus.key] = PairReport()
            for source, target in read_pairs(corpus, report):
                if not source.strip() or not target.strip():
                    report.skip(EMPTY)
                    continue
                if report.kept == corpus.limit:
                    report.skip(BEYOND_LIMIT)
                    break
                report.kept += 1
                out.write(f"{_one_column(source)}\t{_one_column(target)}\n")
    return reports


def held_out_keys(directory: Path) -> dict[str, set[bytes]]:
    """What no training text of each language may match, of all dev and test sets in a directory.

    Those of other language pairs too: their English side is a reference that the model could
    learn by heart in any direction into English.
    """
    keys: dict[str, set[bytes]] = {}
    for split in HELD_OUT_SPLITS:
        for path in sorted(directory.glob(f"{split}.*.tsv")):
            codes = languages_of(path.name.split(".")[1])
            for texts in read_bitext(path):
                for code, text in zip(codes, texts, strict=True):
                    keys.setdefault(code, set()).add(match_key(normalise(text)))
    return keys


def _one_column(text: str) -> str:
    return text.replace("\t", " ").replace("\r", " ").replace("\n", " ")
