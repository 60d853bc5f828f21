"""Small files of the forms that WMT's corpora come in, made by Python's own archivers."""

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from xml.sax.saxutils import escape

Pairs = list[tuple[str, str]]


def tar_gz(members: Mapping[str, str]) -> bytes:
    """A .tgz archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def zipped(members: Mapping[str, str]) -> bytes:
    """A .zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def lines(segments: list[str]) -> str:
    """One segment a line."""
    return "".join(f"{segment}\n" for segment in segments)


def sides(pairs: Pairs) -> tuple[str, str]:
    """Two Moses files."""
    return lines([a for a, _ in pairs]), lines([b for _, b in pairs])


def tsv(pairs: Pairs, *more: str) -> str:
    """Tab-separated columns, with further ones behind."""
    return lines(["\t".join([a, b, *more]) for a, b in pairs])


def tmx(pairs: Pairs, first: str, second: str) -> str:
    """A translation memory."""
    units = "".join(
        f'<tu><tuv xml:lang="{first}"><seg>{escape(a)}</seg></tuv>'
        f'<tuv xml:lang="{second}"><seg>{escape(b)}</seg></tuv></tu>\n'
        for a, b in pairs
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header/>'
    return f"{head}<body>\n{units}</body></tmx>\n"


def sgm(segments: list[str]) -> str:
    """One side of a test set as WMT had them until 2020."""
    text = "".join(f'<seg id="{n}">{escape(s)}</seg>\n' for n, s in enumerate(segments, 1))
    doc = f'<doc sysid="ref" docid="a" genre="news" origlang="en">\n<p>\n{text}</p>\n</doc>\n'
    return f'<refset setid="s" srclang="any" trglang="xx">\n{doc}</refset>\n'


def wmt_xml(pairs: Pairs, source: str, target: str) -> str:
    """Both sides of a test set as WMT has them since 2021."""

    def segments(texts: list[str]) -> str:
        return "".join(f'<seg id="{n}">{escape(s)}</seg>' for n, s in enumerate(texts, 1))

    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<dataset id="d"><doc origlang="{source}" id="a">'
        f'<src lang="{source}"><p>{segments([a for a, _ in pairs])}</p></src>'
        f'<ref lang="{target}" translator="A"><p>{segments([b for _, b in pairs])}</p></ref>'
        "</doc></dataset>\n"
    )


def xliff(pairs: Pairs, source: str, target: str) -> str:
    """A localisation file."""
    units = "".join(
        f'<trans-unit id="{n}"><source>{escape(a)}</source><target>{escape(b)}</target>'
        "</trans-unit>"
        for n, (a, b) in enumerate(pairs)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">'
        f'<file source-language="{source}" target-language="{target}" original="x" '
        f'datatype="plaintext"><body>{units}</body></file></xliff>\n'
    )


def _pairs(name: str) -> Pairs:
    return [(f"{name} one & only", f"{name} eins"), (f"{name} two", f"{name} zwei")]


def _swapped(pairs: Pairs) -> Pairs:
    return [(b, a) for a, b in pairs]


def _corpus(identifier: str) -> bytes | list[bytes]:
    """The files of a corpus, whose English segments come first in :func:`text_of`."""
    pairs = text_of(identifier)
    english, other = sides(pairs)
    match identifier:
        case "Statmt-europarl-9-deu-eng":
            return gzip.compress(tsv(_swapped(pairs), "a third column").encode())
        case "Statmt-commoncrawl_wmt13-1-deu-eng":
            members = {"commoncrawl.de-en.de": other, "commoncrawl.de-en.en": english}
            return tar_gz({"commoncrawl.fr-en.fr": "no\n", **members})
        case "Tilde-rapid-2016-eng-fin":
            return zipped({"RAPID_2016.en-fi.tmx": tmx(pairs, "en", "fi")})
        case "ParaCrawl-paracrawl-3-eng-fin":
            return gzip.compress(tmx(_swapped(pairs), "FI-fi", "EN-us").encode())
        case "EU-dcep-1-eng-lav":
            return lzma.compress(tsv(pairs).encode())
        case "JoshuaDec-indian_training-1-hin-eng":
            at = "indian-parallel-corpora-a2cd1a99/hi-en/training.hi-en"
            return tar_gz({f"{at}.hi": other, f"{at}.en": english})
        case "OPUS-setimes-v2-eng-tur":
            name = "SETIMES.en-tr"
            files = {f"{name}.en": english, f"{name}.tr": other, "README": "no"}
            return zipped(files | {"LICENSE": "no"})
        case "Statmt-pmindia-1-eng-hin":
            return tsv(pairs).encode()
        case "Statmt-newsdev_enlv-2017-eng-lav":
            at = "dev/newsdev2017-enlv"
            return tar_gz(
                {
                    f"{at}-src.en.sgm": sgm([a for a, _ in pairs]),
                    f"{at}-ref.lv.sgm": sgm([b for _, b in pairs]),
                }
            )
        case "Statmt-newstest_ende-2021-eng-deu":
            return tar_gz({"test/newstest2021.en-de.xml": wmt_xml(pairs, "en", "de")})
        case "Statmt-commoncrawl-wmt19-fra-deu":
            return [gzip.compress(english.encode()), gzip.compress(other.encode())]
        case "Statmt-yandex-wmt22-eng-rus":
            at = "WMT2022-data-main/en-ru/en-ru.1m"
            files = {f"{at}_{n}.tsv": tsv(pairs[n - 1 : n]) for n in range(1, 11)}
            return zipped(files)
    raise ValueError(identifier)


def text_of(identifier: str) -> Pairs:
    """The pairs of a corpus: English and the other language, or French and German."""
    return _pairs(identifier)


SERVED = [
    ("Statmt-europarl-9-deu-eng", "en-de"),
    ("Statmt-commoncrawl_wmt13-1-deu-eng", "en-de"),
    ("Tilde-rapid-2016-eng-fin", "en-fi"),
    ("ParaCrawl-paracrawl-3-eng-fin", "en-fi"),
    ("EU-dcep-1-eng-lav", "en-lv"),
    ("JoshuaDec-indian_training-1-hin-eng", "en-hi"),
    ("OPUS-setimes-v2-eng-tur", "en-tr"),
    ("Statmt-pmindia-1-eng-hin", "en-hi"),
    ("Statmt-newsdev_enlv-2017-eng-lav", "en-lv"),
    ("Statmt-newstest_ende-2021-eng-deu", "en-de"),
    ("Statmt-commoncrawl-wmt19-fra-deu", "fr-de"),
    ("Statmt-yandex-wmt22-eng-rus", "en-ru"),
]
"""Corpora of mtdata's index, each for a pair, of every form in which it has them."""
CONTENTS = {
    identifier: [made] if isinstance(made := _corpus(identifier), bytes) else made
    for identifier, _ in SERVED
}
