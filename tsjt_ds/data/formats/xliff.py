"""XLIFF 1.2 and 2, the format of translation jobs."""

from collections.abc import Iterator

from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.formats.languages import NO_FIT, fit
from tsjt_ds.data.formats.records import Record
from tsjt_ds.data.formats.xml_stream import Walker, xml_records
from tsjt_ds.data.report import EMPTY, LANGUAGE

_UNITS = ("trans-unit", "segment")
_ASIDE = ("alt-trans", "seg-source", "matches", "ignorable")
"""Elements whose sources and targets are not those of the unit."""


def read_xliff(parts: tuple[Part, ...], corpus: CorpusFiles) -> Iterator[Record]:
    """Source and target of each unit (2: segment); turned round if the file's languages are so.

    A unit that has no target is counted as empty, one of a file of other languages as of another.
    """
    return xml_records(parts[0], corpus.pair, _Units)


class _Units(Walker):
    def __init__(self, name: str, languages: tuple[str, str]) -> None:
        super().__init__(name, languages)
        self._order: tuple[str, str] | None = None
        self._texts: dict[str, str] | None = None
        self._aside = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _ASIDE:
            self._aside += 1
        elif tag in ("file", "xliff"):
            source = attributes.get("source-language") or attributes.get("srcLang")
            target = attributes.get("target-language") or attributes.get("trgLang")
            if source:
                self._order = self._order_of(source, target)
        elif tag in _UNITS:
            self._texts = {}
        elif tag in ("source", "target") and self._texts is not None and not self._aside:
            self.gather()

    def end(self, tag: str) -> None:
        if tag in _ASIDE:
            self._aside -= 1
        elif tag in ("source", "target") and self._texts is not None and not self._aside:
            self._texts[tag] = self.gathered()
        elif tag in _UNITS and self._texts is not None:
            self._finish(self._texts)
            self._texts = None

    def _finish(self, texts: dict[str, str]) -> None:
        if self._order is None:
            self.reject(LANGUAGE)
        elif len(texts) < 2:
            self.reject(EMPTY)
        else:
            first, second = self._order
            self.add(texts[first], texts[second])

    def _order_of(self, source: str, target: str | None) -> tuple[str, str] | None:
        first, second = self.languages
        if fit(source, first) and (target is None or fit(target, second) != NO_FIT):
            return "source", "target"
        if fit(source, second) and (target is None or fit(target, first) != NO_FIT):
            return "target", "source"
        return None
