"""Files of each format, of hostile text; and XML that attacks its reader."""

import io
import json
from collections.abc import Callable
from xml.sax.saxutils import escape

from hypothesis import strategies as st

from tests.fuzz.texts import pairs

Pairs = list[tuple[str, str]]

CODES = ("en", "de", "EN-us", "de_AT", "fr", "", "x" * 300, "en-de-fr", "\u0130")
DOCTYPES = (
    '<!DOCTYPE tmx SYSTEM "tmx14.dtd">',
    '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">',
    '<!DOCTYPE a [<!ENTITY x "y">]>',
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/"> %p;]>',
    '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {c} "{f"&{p};" * 10}">' for p, c in zip("abcdefgh", "bcdefghx", strict=True)
    )
    + "]>",
    '<!DOCTYPE a [<!ENTITY x "' + "y" * 50_000 + '">]>',
    '<!DOCTYPE a [<!ATTLIST tu lang CDATA "en">]>',
    '<!DOCTYPE a [<!ENTITY % x "&#37;x;"> %x;]>',
)
DECLARATIONS = (
    '<?xml version="1.0"?>',
    *(
        f'<?xml version="1.0" encoding="{name}"?>'
        for name in ("UTF-8", "UTF-16", "UTF-7", "latin-1", "cp1252", "shift_jis", "rot13", "zz")
    ),
)
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")
ATTACKS = (
    "<a>" * 100_000,
    "<tu " + " ".join(f'a{n}="b"' for n in range(20_000)) + ">",
    "".join(f"<n{n}/>" for n in range(30_000)),
    '<seg a="' + "b" * 3_000_000,
    "<!--" + "c" * 3_000_000,
    "<?p " + "c" * 3_000_000,
    "<![CDATA[" + "c" * 3_000_000 + "]]>",
    "<seg>" + "c" * 3_000_000 + "</seg>",
    "<tuv xml:lang='en'><seg>s</seg></tuv>" * 20_000,
    "<src lang='en'>" + "".join(f"<seg id='{n}'>s</seg>" for n in range(30_000)),
    "&x;" * 1000,
)


def _tsv(rows: Pairs) -> bytes:
    return "\n".join("\t".join(row) for row in rows).encode()


def _side(side: int) -> Callable[[Pairs], bytes]:
    return lambda rows: "".join(row[side] + "\n" for row in rows).encode()


def _jsonl(rows: Pairs) -> bytes:
    lines = [
        json.dumps({"en": source, "de": target, "t": {"en": [source]}}, ensure_ascii=number % 2 > 0)
        for number, (source, target) in enumerate(rows)
    ]
    return "\n".join(lines).encode()


def _parquet(rows: Pairs) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    columns = {"en": [row[0] for row in rows], "de": [row[1] for row in rows]}
    table = pyarrow.table(columns, schema=pyarrow.schema(dict.fromkeys(columns, pyarrow.string())))
    pyarrow.parquet.write_table(table, out, row_group_size=2)
    return out.getvalue()


def _sgm(side: int) -> Callable[[Pairs], bytes]:
    def write(rows: Pairs) -> bytes:
        segments = "".join(
            f'<seg id="{number}">{row[side]}</seg>\n' for number, row in enumerate(rows)
        )
        kind = ("srcset", "refset")[side]
        return f'<{kind} setid="x">\n<doc docid="d">\n{segments}</doc>\n</{kind}>\n'.encode()

    return write


def _tmx(rows: Pairs, codes: list[str]) -> str:
    units = "".join(
        f"<tu><tuv xml:lang={_quoted(codes[0])}><seg>{_xml(source)}<bpt>{{</bpt></seg></tuv>"
        f"<tuv lang={_quoted(codes[1])}><seg>{_xml(target)}</seg></tuv></tu>\n"
        for source, target in rows
    )
    return f'<tmx version="1.4"><header/><body>\n{units}</body></tmx>'


def _xliff1(rows: Pairs, codes: list[str]) -> str:
    units = "".join(
        f"<trans-unit><source>{_xml(source)}</source><target>{_xml(target)}</target>"
        f"<alt-trans><target>z</target></alt-trans></trans-unit>\n"
        for source, target in rows
    )
    languages = f"source-language={_quoted(codes[0])} target-language={_quoted(codes[1])}"
    return f'<xliff version="1.2"><file {languages}><body>{units}</body></file></xliff>'


def _xliff2(rows: Pairs, codes: list[str]) -> str:
    units = "".join(
        f"<unit><segment><source>{_xml(source)}</source><target>{_xml(target)}</target>"
        "</segment></unit>\n"
        for source, target in rows
    )
    languages = f"srcLang={_quoted(codes[0])} trgLang={_quoted(codes[1])}"
    return f'<xliff version="2.0" {languages}><file>{units}</file></xliff>'


def _wmt_xml(rows: Pairs, codes: list[str]) -> str:
    blocks = [
        f"<{tag} lang={_quoted(code)}><p>"
        + "".join(f'<seg id="{number}">{_xml(row[side])}</seg>' for number, row in enumerate(rows))
        + f"</p></{tag}>"
        for side, (tag, code) in enumerate(zip(("src", "ref"), codes, strict=True))
    ]
    return f'<dataset id="x"><doc id="d" origlang="en">{"".join(blocks)}</doc></dataset>'


def _quoted(text: str) -> str:
    return '"' + escape(text, {'"': "&quot;"}) + '"'


def _xml(text: str) -> str:
    """Well-formed, unless the text begins as what is not."""
    return text if text.startswith(("&#", "&n", "]]", "<![")) else escape(text)


_XML_WRITERS = {"tmx": [_tmx], "xliff": [_xliff1, _xliff2], "wmt_xml": [_wmt_xml]}
_WRITERS: dict[str, list[Callable[[Pairs], bytes]]] = {
    "tsv": [_tsv],
    "text": [_side(0), _side(1)],
    "jsonl": [_jsonl],
    "parquet": [_parquet],
    "sgm": [_sgm(0), _sgm(1)],
}


_codes = st.sampled_from(CODES) | st.text(st.characters(exclude_characters="\0&<"), max_size=8)
_sometimes = st.sampled_from((False, False, True))


@st.composite
def documents(draw: st.DrawFn, kind: str) -> tuple[bytes, ...]:
    """The one or two files of a format; text of XML formats may be an attack."""
    rows = draw(pairs)
    if kind not in _XML_WRITERS:
        return tuple(write(rows) for write in _WRITERS[kind])
    codes = draw(st.lists(_codes, min_size=2, max_size=2)) if draw(_sometimes) else ["en", "de"]
    body = draw(st.sampled_from(_XML_WRITERS[kind]))(rows, codes)
    if draw(st.integers(0, 200)) == 99:
        attack = draw(st.sampled_from(ATTACKS))
        at = draw(st.integers(0, len(body)))
        body = body[:at] + attack + body[at:]
    start = draw(st.sampled_from(DECLARATIONS)) if draw(_sometimes) else ""
    doctype = draw(st.sampled_from(DOCTYPES)) if draw(_sometimes) else ""
    encoding = draw(st.sampled_from(ENCODINGS)) if draw(_sometimes) else "utf-8"
    return ((start + doctype + body).encode(encoding, "replace"),)
