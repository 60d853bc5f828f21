"""From raw bitext to a prepared directory: clean, train the tokenizer, tokenise, record."""

from pathlib import Path

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.checksums import Checksums, FileRecord
from tsjt_ds.data.corpora import check_files
from tsjt_ds.data.language_identification import check_languages
from tsjt_ds.data.preparation.chunks import CHUNK_CHARACTERS, CHUNK_PAIRS
from tsjt_ds.data.preparation.duplicates import RUN_PAIRS
from tsjt_ds.data.preparation.partial import Basis, PartialDirectory
from tsjt_ds.data.preparation.progress import Say
from tsjt_ds.data.preparation.records import versions
from tsjt_ds.data.preparation.steps import Preparation
from tsjt_ds.data.preparation.workers import Workers
from tsjt_ds.data.prepared import (
    CHECKSUMS,
    MANIFEST,
    REUSED,
    Manifest,
    PreparedData,
    config_differences,
    input_differences,
    input_records,
    preparation_config,
    read_manifest,
)
from tsjt_ds.data.proportion import describe_rows
from tsjt_ds.data.readers import check_beginnings
from tsjt_ds.data.tokenizer import Tokenizer
from tsjt_ds.errors import UserError
from tsjt_ds.limits import cores

_TOKEN_KEYS = ("data.max_segment_tokens", "data.max_length_ratio", "tokenizer.")
"""What clean text does not depend on."""


def prepare(
    recipe: Recipe, overwrite: bool = False, say: Say = print, workers: int | None = None
) -> PreparedData:
    """Write the recipe's prepared directory, or find it finished already.

    The directory is built beside its place, as ``<prepared>.partial``, and renamed when it is
    complete. An interrupted preparation is taken up there, chunk by chunk, if inputs, recipe and
    versions are the same. The bytes that are written depend neither on that nor on ``workers``.

    In memory are the tokenizer's sample (``tokenizer.train_segments`` segments with their hashes),
    a few chunks for each worker, the match keys of all dev and test text in each process, and the
    hashes of two runs of training pairs (see :mod:`tsjt_ds.data.preparation.duplicates`).

    Args:
        recipe: says what.
        overwrite: replace prepared data that was made from other inputs.
        say: takes a line for the user.
        workers: processes that clean and tokenise; default: the cores this process may use.

    Raises:
        UserError: a file is missing or damaged, a pair has no usable data, the vocabulary is too
            large for the text, the tokenizer to reuse does not fit, the directory holds data
            made from other inputs, or another process is preparing it.
    """
    directory = recipe.prepared_path
    # A link stays, and what it names is replaced, on the disk where that lies.
    place = directory.resolve()
    check_files(recipe.data)
    check_languages(recipe.data)
    reused = _reused_tokenizer(recipe)
    found = _found(directory)
    there = _there(recipe, found, overwrite)
    partial_memory = PartialDirectory.place(place) / CHECKSUMS
    checksums = Checksums([directory / CHECKSUMS, partial_memory])
    inputs = _input_records(recipe, checksums, reused)
    if there is not None:
        _refuse(directory, input_differences(there.inputs, inputs))
        prepared = PreparedData.open(directory)
        PartialDirectory.tidy(place)
        ago = "" if there.is_of_these_rules else ", by another version (--overwrite: by this one)"
        say(f"{directory}: already prepared{ago}")
        return prepared
    check_beginnings(recipe.data)
    try:
        with (
            PartialDirectory(place, _basis(recipe, inputs), say) as partial,
            Workers(workers or cores()) as pool,
        ):
            _check_unchanged(directory, found)
            checksums.write(partial_memory)
            Preparation(recipe, partial, reused, pool, say).run(inputs)
            _check_unchanged(directory, found)
            partial.finish(place)
    except OSError as error:
        raise UserError(
            f"{error.filename or directory}: {error.strerror} (make room, or change data.prepared)"
        ) from None
    prepared = PreparedData.open(directory)
    say(describe_rows(prepared, recipe.data))
    return prepared


def check_ahead(recipe: Recipe, overwrite: bool = False) -> None:
    """Check what of a recipe can be checked before its corpora are there.

    Raises:
        UserError: a language cannot be identified, the tokenizer to reuse does not fit, or the
            directory holds other files or data of another recipe.
    """
    check_languages(recipe.data)
    _reused_tokenizer(recipe)
    _there(recipe, _found(recipe.prepared_path), overwrite)


def _basis(recipe: Recipe, inputs: dict[str, FileRecord]) -> Basis:
    config = preparation_config(recipe)
    tokens = {key: value for key, value in config.items() if key.startswith(_TOKEN_KEYS)}
    text = {key: value for key, value in config.items() if key not in tokens}
    records = {name: record.model_dump() for name, record in inputs.items()}
    tokens[REUSED] = records.pop(REUSED, None)
    sizes = {"pairs": CHUNK_PAIRS, "characters": CHUNK_CHARACTERS, "run": RUN_PAIRS}
    return Basis(
        text=text | {"inputs": records, "versions": versions(recipe), "chunks": sizes},
        tokens=tokens,
    )


def _input_records(
    recipe: Recipe, checksums: Checksums, reused: Path | None
) -> dict[str, FileRecord]:
    records = input_records(recipe.data, checksums)
    return records | {REUSED: checksums.records([reused])[0]} if reused else records


def _reused_tokenizer(recipe: Recipe) -> Path | None:
    """The tokenizer that the recipe takes over, after a check that it fits."""
    if not recipe.tokenizer.reuse:
        return None
    directory = Path(recipe.tokenizer.reuse)
    if directory.resolve() == recipe.prepared_path.resolve():
        raise UserError(
            f"{REUSED}: {directory} is data.prepared itself (name another prepared directory)"
        )
    path = PreparedData.open(directory).tokenizer_path
    tokenizer = Tokenizer(path)
    if tokenizer.vocab_size != recipe.tokenizer.vocab_size:
        raise UserError(
            f"{REUSED}: {path} has {tokenizer.vocab_size} pieces, not the "
            f"{recipe.tokenizer.vocab_size} of tokenizer.vocab_size (make them equal)"
        )
    if tokenizer.languages != recipe.data.languages:
        raise UserError(
            f"{REUSED}: {path} has the languages {', '.join(tokenizer.languages)}, not the "
            f"{', '.join(recipe.data.languages)} of data.pairs (name the same, in that order)"
        )
    return path


def _found(directory: Path) -> str | None:
    """The manifest, as text, of what is prepared; None: there is nothing.

    Raises:
        UserError: there are other files, or what is there cannot be replaced.
    """
    if directory.is_mount():
        raise UserError(f"{directory}: is a mount point (name a directory below it)")
    manifest = directory / MANIFEST
    if manifest.is_file():
        return manifest.read_text(encoding="utf-8")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory}: holds other files (choose another data.prepared)")
    return None


def _there(recipe: Recipe, found: str | None, overwrite: bool) -> Manifest | None:
    """The manifest of what is prepared and to stay, after a check that it is of this recipe."""
    if found is None or overwrite:
        return None
    directory = recipe.prepared_path
    manifest = read_manifest(directory)
    _refuse(directory, config_differences(manifest.config, preparation_config(recipe)))
    return manifest


def _check_unchanged(directory: Path, found: str | None) -> None:
    """See that nobody has put anything into the place of what is prepared here."""
    if _found(directory) != found:
        raise UserError(f"{directory}: was prepared by somebody else meanwhile (start again)")


def _refuse(directory: Path, differences: list[str]) -> None:
    if differences:
        remedy = "choose another data.prepared, or --overwrite"
        raise UserError("\n".join(f"{directory}: {line} ({remedy})" for line in differences))
