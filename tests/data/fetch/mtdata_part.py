"""A part of mtdata's own index, for tests: all of it takes half a minute to make."""

import importlib
import pickle
import subprocess
import sys
import types
from pathlib import Path

MODULES = ("statmt", "paracrawl", "tilde", "joshua_indian", "other", "eu")


def write_part(file: Path) -> None:
    """Write what mtdata itself makes of its lists, but of OPUS only English with ten languages.

    In a process of its own, since mtdata redirects logging.
    """
    command = [sys.executable, "-m", "tests.data.fetch.mtdata_part", str(file)]
    subprocess.run(command, check=True, capture_output=True)


def _write(file: Path) -> None:
    import mtdata

    # mtdata makes the whole index on import, unless it finds one: here an empty one.
    stand_in = types.ModuleType("mtdata.index")
    empty = type("Index", (), {"__module__": "mtdata.index"})
    stand_in.Index = empty  # type: ignore[attr-defined]
    sys.modules["mtdata.index"] = stand_in
    index = empty()
    index.entries = {}
    mtdata.cached_index_file = file
    file.write_bytes(pickle.dumps(index))
    del sys.modules["mtdata.index"]
    from mtdata.index import INDEX, ReferenceDb

    INDEX.ref_db = ReferenceDb()
    for name in MODULES:
        importlib.import_module(f"mtdata.index.{name}").load_all(INDEX)
    opus = importlib.import_module("mtdata.index.opus.opus_index")
    opus.data_file = _ours(opus.data_file, file.with_suffix(".tsv"))
    opus.load_all(INDEX)
    file.write_bytes(pickle.dumps(INDEX))


def _ours(listed: Path, chosen: Path) -> Path:
    languages = {"fr", "cs", "de", "fi", "lv", "et", "ro", "hi", "tr", "gu"}
    with listed.open() as lines, chosen.open("w") as out:
        for line in lines:
            sides = set(line.split()[2:])
            if "en" in sides and sides & languages:
                out.write(line)
    return chosen


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
