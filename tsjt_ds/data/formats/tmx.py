"""TMX 1.1 to 1.4, the format of translation memories."""

from collections.abc import Iterator

from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.formats.languages import NO_FIT, SAME, fit
from tsjt_ds.data.formats.records import Record
from tsjt_ds.data.formats.xml_stream import Walker, xml_records
from tsjt_ds.data.report import LANGUAGE


def read_tmx(parts: tuple[Part, ...], corpus: CorpusFiles) -> Iterator[Record]:
    """The two languages of each translation unit, in whichever order it has them.

    Of several variants of a language the one that is named as in the recipe is read, else the
    first. A unit without one of the languages is counted as of another.
    """
    return xml_records(parts[0], corpus.pair, _Units)


class _Units(Walker):
    def __init__(self, name: str, languages: tuple[str, str]) -> None:
        super().__init__(name, languages)
        self._fits = [NO_FIT, NO_FIT]
        self._texts = ["", ""]
        self._side: int | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "tu":
            self._fits = [NO_FIT, NO_FIT]
        elif tag == "tuv":
            self._choose(attributes.get("xml:lang") or attributes.get("lang", ""))
        elif tag == "seg" and self._side is not None:
            self.gather()

    def end(self, tag: str) -> None:
        if tag == "seg" and self._side is not None:
            self._texts[self._side] = self.gathered()
            self._side = None
        elif tag == "tu" and NO_FIT in self._fits:
            self.reject(LANGUAGE)
        elif tag == "tu":
            self.add(*self._texts)

    def _choose(self, code: str) -> None:
        fits = [fit(code, language) for language in self.languages]
        self._side = None
        for side in (0, 1):
            is_only = fits[side] == SAME or fits[1 - side] == NO_FIT
            if is_only and fits[side] > self._fits[side]:
                self._side = side
                self._fits[side], self._texts[side] = fits[side], ""
                return
