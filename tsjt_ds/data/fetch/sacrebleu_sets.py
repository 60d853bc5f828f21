"""sacreBLEU's test sets: its code tells URLs and checksums and takes the text out."""

import copy
import importlib.metadata
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import filelock

from tsjt_ds.config.schema import nearest
from tsjt_ds.data.fetch.download import Download
from tsjt_ds.data.fetch.located import Located, Part, cache_directory
from tsjt_ds.data.fetch.notes import NotFetchedError
from tsjt_ds.errors import UserError


def version() -> str:
    """sacreBLEU's version."""
    return importlib.metadata.version("sacrebleu")


def downloads_of(name: str, pair: str, key: str) -> list[Download]:
    """The files of a test set.

    Args:
        name: the set, as ``wmt18`` or ``wmt17/dev``.
        pair: the direction that is wanted.
        key: the recipe's key, for the message.

    Raises:
        UserError: sacreBLEU does not have it, or not for this direction.
    """
    dataset = _dataset(name, pair, key)
    sums = dataset.md5 or [""] * len(dataset.data)
    citation = f"sacrebleu -t {name} --cite"
    return [
        Download(url, md5=md5 or "", citation=citation)
        for url, md5 in zip(dataset.data, sums, strict=True)
    ]


def located(name: str, pair: str, key: str) -> Located:
    """Where the text of a test set lies.

    Raises:
        NotFetchedError: it has not been taken out of the set's files yet.
    """
    directory = _directory(name, pair)
    if not directory.exists():
        raise NotFetchedError(key, f"{name} for {pair}")
    return Located("text", ((Part(directory / "source"), Part(directory / "reference")),))


def extract(name: str, pair: str, key: str) -> None:
    """Take the text of a test set out of its fetched files, as sacreBLEU does.

    Raises:
        UserError: sacreBLEU cannot read them.
    """
    directory = _directory(name, pair)
    if directory.exists():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(directory.with_name(f"{pair}.lock")):
        if not directory.exists():
            _extract(name, pair, key, directory)


def _directory(name: str, pair: str) -> Path:
    return cache_directory() / "sacrebleu" / version() / name.replace("/", "_") / pair


def _extract(name: str, pair: str, key: str, target: Path) -> None:
    work = target.with_name(f"{pair}.partial")
    shutil.rmtree(work, ignore_errors=True)
    (work / "raw").mkdir(parents=True)
    dataset = copy.copy(_dataset(name, pair, key))
    dataset._outdir, dataset._rawdir = str(work), str(work / "raw")
    dataset.maybe_download = lambda: None
    try:
        for download in downloads_of(name, pair, key):
            archive = work / "raw" / dataset._get_tarball_filename(download.url)
            shutil.copyfile(download.path, archive)
            _unpack(archive)
        Path(dataset.get_source_file(pair)).rename(work / "source")
        Path(dataset.get_reference_files(pair)[0]).rename(work / "reference")
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile, IndexError) as error:
        raise UserError(f"{key}: sacreBLEU cannot take {name} out of its files: {error}") from None
    shutil.rmtree(work / "raw")
    work.rename(target)


def _unpack(archive: Path) -> None:
    if archive.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(archive) as tar:
            tar.extractall(archive.parent, filter="data")
    elif archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(archive.parent)


def _dataset(name: str, pair: str, key: str) -> Any:
    from sacrebleu.dataset import DATASETS

    if name not in DATASETS:
        raise UserError(f"{key}: sacreBLEU has no set {name} ({nearest(name, list(DATASETS))})")
    dataset = DATASETS[name]
    if pair not in dataset.langpairs:
        remedy = nearest(pair, list(dataset.langpairs))
        raise UserError(f"{key}: sacreBLEU's {name} is not for {pair} ({remedy})")
    return dataset
