"""Parquet, a batch of rows at a time."""

from collections.abc import Iterator
from typing import Any

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.formats.lines import MAX_LINE_BYTES
from tsjt_ds.data.formats.packages import needed_module
from tsjt_ds.data.formats.records import Record, Rejected, one_line
from tsjt_ds.data.formats.streams import part_name
from tsjt_ds.data.report import EMPTY, INVALID_UTF8, TOO_LONG
from tsjt_ds.errors import UserError

_Value = bytes | str | None
"""Text, the reason why it is none, or null."""

_BATCH_ROWS = 256
_METADATA_BYTES = 64 << 20


def read_parquet(parts: tuple[Part, ...], corpus: CorpusFiles) -> Iterator[Record]:
    """The two columns that ``corpus.columns`` names or numbers; default: the languages' codes.

    A name is dotted where the column is in a struct. In memory are, of each of the two columns,
    one page and the dictionary (their writer decides: 1 MiB or so), and 256 rows.

    Raises:
        UserError: pyarrow is missing, the file is damaged, or has no such column of text.
    """
    name = part_name(parts[0])
    pyarrow = _pyarrow()
    parquet = needed_module(("pyarrow.parquet",), "pyarrow", "a Parquet file")
    if parts[0].member:
        raise UserError(f"{name}: Parquet cannot be read from an archive (unpack it)")
    limits = {
        "buffer_size": 1 << 20,
        "pre_buffer": False,
        "thrift_string_size_limit": _METADATA_BYTES,
        "thrift_container_size_limit": _METADATA_BYTES,
    }
    try:
        with parquet.ParquetFile(parts[0].path, **limits) as file:
            columns = _columns(file.schema_arrow, corpus, name)
        # As dictionaries: a value that is repeated is in memory once, however long.
        with parquet.ParquetFile(parts[0].path, read_dictionary=columns, **limits) as file:
            rows = file.iter_batches(_BATCH_ROWS, columns=list(dict.fromkeys(columns)))
            yield from _records(rows, columns, name)
    except pyarrow.ArrowException as error:
        line = str(error).splitlines()[0]
        raise UserError(f"{name}: damaged Parquet file: {line} (fetch it again)") from None
    except OSError as error:
        what = error.strerror if error.errno else f"damaged Parquet file: {error}"
        raise UserError(f"{name}: {str(what).splitlines()[0]} (fetch it again)") from None


def _pyarrow() -> Any:
    return needed_module(("pyarrow",), "pyarrow", "a Parquet file")


def _columns(schema: Any, corpus: CorpusFiles, name: str) -> list[str]:
    """Names, after a check that they are columns of text."""
    known = dict(_text_columns(schema))
    chosen = []
    for column in corpus.columns or languages_of(corpus.pair):
        numbered = isinstance(column, int) and 0 <= column < len(schema.names)
        chosen.append(schema.names[column] if numbered else str(column))
        if chosen[-1] not in known:
            has = ", ".join(list(known)[:8]) or "none"
            raise UserError(
                f"{name}: no column {chosen[-1]!r} of text (it has {has}; "
                f"name them in {corpus.key}.columns)"
            )
    return chosen


def _text_columns(fields: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    pyarrow = _pyarrow()
    text = (pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.large_binary())
    for field in fields:
        name, kind = prefix + field.name, field.type
        if pyarrow.types.is_struct(kind):
            yield from _text_columns(kind, f"{name}.")
        elif kind in text or (pyarrow.types.is_dictionary(kind) and kind.value_type in text):
            yield name, kind


def _records(rows: Any, columns: list[str], name: str) -> Iterator[Record]:
    number = 0
    for batch in rows:
        for source, target in zip(*(_values(batch, column) for column in columns), strict=True):
            number += 1
            pair = _pair(source, target)
            yield Rejected(pair, f"{name}: row {number}") if isinstance(pair, str) else pair


def _values(batch: Any, column: str) -> Iterator[_Value]:
    pyarrow = _pyarrow()
    compute = needed_module(("pyarrow.compute",), "pyarrow", "a Parquet file")
    array = batch.column(column) if column in batch.schema.names else None
    if array is None:
        top, *path = column.split(".")
        array = batch.column(top)
        for field in path:
            array = compute.struct_field(array, field)
    # As bytes: what pyarrow calls a string may be broken UTF-8.
    binary = pyarrow.large_binary()
    if not pyarrow.types.is_dictionary(array.type):
        return iter(array.cast(binary).to_pylist())
    values = array.dictionary
    longest = compute.max(compute.binary_length(values)).as_py() or 0
    if longest <= MAX_LINE_BYTES:
        return iter(values.take(array.indices).cast(binary).to_pylist())
    values = values.cast(binary)
    return (_value(values, index) for index in array.indices.to_pylist())


def _value(values: Any, index: int | None) -> _Value:
    if index is None or not values[index].is_valid:
        return None
    return TOO_LONG if len(values[index].as_buffer()) > MAX_LINE_BYTES else values[index].as_py()


def _pair(source: _Value, target: _Value) -> tuple[str, str] | str:
    """Source and target, or the reason why there are none."""
    if source is None or target is None:
        return EMPTY
    if isinstance(source, str) or isinstance(target, str):
        return TOO_LONG
    if max(len(source), len(target)) > MAX_LINE_BYTES:
        return TOO_LONG
    try:
        return one_line(source.decode()), one_line(target.decode())
    except UnicodeDecodeError:
        return INVALID_UTF8
