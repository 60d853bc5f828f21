import tracemalloc
from pathlib import Path

import pytest

from tests.data.formats.reading import read, skipped
from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import INVALID_UTF8, LANGUAGE, TOO_LONG, PairReport

# As translate-toolkit 3.20 writes it.
TOOLKIT = """<?xml version='1.0' encoding='UTF-8'?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4">
  <header creationtool="Translate Toolkit" segtype="sentence" o-tmf="UTF-8" adminlang="en"
    srclang="en" datatype="PlainText"/>
  <body>
    <tu>
      <tuv xml:lang="en">
        <seg>Hello &amp; &lt;b&gt;you&lt;/b&gt;</seg>
      </tuv>
      <tuv xml:lang="de">
        <seg>Hallo &amp; &lt;b&gt;du&lt;/b&gt;</seg>
      </tuv>
    </tu>
    <tu><tuv xml:lang="en"><seg>line
 break</seg></tuv><tuv xml:lang="de"><seg>  Zeilenumbruch </seg></tuv></tu>
  </body>
</tmx>
"""


def units(*units: str) -> str:
    return f'<tmx version="1.4"><header/><body>{"".join(units)}</body></tmx>'


def unit(*texts: tuple[str, str]) -> str:
    variants = (
        f'<tuv xml:lang="{code.replace("_", "-")}"><seg>{text}</seg></tuv>' for code, text in texts
    )
    return f"<tu>{''.join(variants)}</tu>"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("pair", ["en-de", "de-en"])
def test_what_the_toolkit_writes_is_read(tmp_path: Path, pair: str) -> None:
    expected = [
        ("Hello & <b>you</b>", "Hallo & <b>du</b>"),
        ("line break", "Zeilenumbruch"),
    ]
    pairs, _ = read("tmx", write(tmp_path / "x", TOOLKIT), pair=pair)
    assert pairs == (expected if pair == "en-de" else [(b, a) for a, b in expected])


@pytest.mark.parametrize(
    ("codes", "pair", "expected"),
    [
        (("EN", "DE"), "en-de", (0, 1)),
        (("de_AT", "en_GB"), "en-de", (1, 0)),
        (("eng", "deu"), "en-de", (0, 1)),
        (("en_GB", "en", "de"), "en-de", (1, 2)),
        (("en_GB", "en_US", "de"), "en-de", (0, 2)),
        (("pt_PT", "pt_BR"), "pt_BR-pt_PT", (1, 0)),
        (("pt_BR", "pt"), "pt-pt_BR", (1, 0)),
        (("en", "en"), "en-en", (0, 1)),
        (("en", "fr"), "en-de", None),
        (("en", "zh_Hant"), "en-zh_Hans", None),
        (("pt", "fr"), "pt_BR-pt_PT", None),
    ],
)
def test_languages_are_matched(
    tmp_path: Path, codes: tuple[str, ...], pair: str, expected: tuple[int, int] | None
) -> None:
    text = units(unit(*((code, str(number)) for number, code in enumerate(codes))))
    pairs, report = read("tmx", write(tmp_path / "x", text), pair=pair)
    if expected is None:
        assert skipped(report) == {LANGUAGE: 1}
    else:
        assert pairs == [(str(expected[0]), str(expected[1]))]


def test_native_code_is_no_text(tmp_path: Path) -> None:
    seg = 'a<bpt i="1">{\\b <sub>s</sub></bpt> <hi>b</hi><ept i="1">}</ept><ph/> c'
    assert read("tmx", write(tmp_path / "x", units(unit(("en", seg), ("de", "d")))))[0] == [
        ("a b c", "d")
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    declared = encoding.replace("-sig", "")
    text = f'<?xml version="1.0" encoding="{declared}"?>' + units(unit(("en", "a"), ("de", "ä")))
    assert read("tmx", write(tmp_path / "x", text, encoding))[0] == [("a", "ä")]


def test_broken_text_costs_its_unit_alone(tmp_path: Path) -> None:
    rows = [
        unit(("en", "a"), ("de", bad))
        for bad in ("BROKEN", "\x0b", "\0", "ok", "x" * ((1 << 20) + 1))
    ]
    file = tmp_path / "x"
    file.write_bytes(units(*rows).encode().replace(b"BROKEN", b"\xff\xed\xa0\x80"))
    pairs, report = read("tmx", file)
    assert pairs == [("a", "ok")]
    assert skipped(report) == {INVALID_UTF8: 3, TOO_LONG: 1}


def test_memory_is_constant(tmp_path: Path) -> None:
    tracemalloc.start()
    peaks = []
    for count in (500, 4000):
        file = write(tmp_path / "x", units(*([unit(("en", "a" * 500), ("de", "b" * 500))] * count)))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        corpus = CorpusFiles("k", "en-de", "tmx", ((Part(file),),))
        assert sum(1 for _ in read_pairs(corpus, PairReport())) == count
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 20)
