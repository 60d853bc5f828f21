"""The XML of WMT's test sets since 2021: source and references in one file."""

from collections.abc import Iterator

from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.formats.languages import fit
from tsjt_ds.data.formats.records import Record
from tsjt_ds.data.formats.xml_stream import Walker, xml_records
from tsjt_ds.data.report import EMPTY
from tsjt_ds.errors import UserError

_MAX_DOCUMENT_SEGMENTS = 20_000
_MAX_DOCUMENT_CHARACTERS = 16 << 20


def read_wmt_xml(parts: tuple[Part, ...], corpus: CorpusFiles) -> Iterator[Record]:
    """The segments of each document that have the same id in both languages.

    Of several references the first is read. A segment that one side alone has is counted as
    empty. Documents of test suites are left out, as sacreBLEU does.

    Raises:
        UserError: a document is too long to be held in memory; see also
            :func:`~tsjt_ds.data.formats.xml_stream.xml_records`.
    """
    return xml_records(parts[0], corpus.pair, _Documents)


class _Documents(Walker):
    def __init__(self, name: str, languages: tuple[str, str]) -> None:
        super().__init__(name, languages)
        self._texts: list[dict[str, str] | None] = [None, None]
        self._side: dict[str, str] | None = None
        self._segment: str | None = None
        self._is_test_suite = False
        self._segments = 0
        self._characters = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "doc":
            self._texts, self._segments, self._characters = [None, None], 0, 0
            self._is_test_suite = "testsuite" in attributes
        elif tag in ("src", "ref"):
            self._side = self._chosen(attributes.get("lang", ""))
        elif tag == "seg" and self._side is not None:
            self._segment = attributes.get("id", str(len(self._side) + 1))
            self.gather()

    def end(self, tag: str) -> None:
        if tag == "seg" and self._side is not None and self._segment is not None:
            text = self._side[self._segment] = self.gathered()
            self._count(self._segment + text)
            self._segment = None
        elif tag in ("src", "ref"):
            self._side = None
        elif tag == "doc" and not self._is_test_suite:
            self._finish()

    def _chosen(self, code: str) -> dict[str, str] | None:
        for side, language in enumerate(self.languages):
            if fit(code, language) and self._texts[side] is None:
                texts = self._texts[side] = {}
                return texts
        return None

    def _count(self, text: str) -> None:
        self._segments += 1
        self._characters += len(text)
        if self._segments > _MAX_DOCUMENT_SEGMENTS or self._characters > _MAX_DOCUMENT_CHARACTERS:
            raise UserError(
                f"{self.place()}: a document of more than {_MAX_DOCUMENT_SEGMENTS:,} segments or "
                f"{_MAX_DOCUMENT_CHARACTERS:,} characters (cut it)"
            )

    def _finish(self) -> None:
        source, target = (texts or {} for texts in self._texts)
        for segment in source | target:
            if segment in source and segment in target:
                self.add(source[segment], target[segment])
            else:
                self.reject(EMPTY)
