from pathlib import Path

import pytest

from tests.data.formats.reading import read, skipped
from tests.fuzz.documents import DOCTYPES
from tsjt_ds.data.report import INVALID_UTF8
from tsjt_ds.errors import UserError

BODY = (
    '<tmx version="1.4"><header/><body><tu><tuv xml:lang="en"><seg>%s</seg></tuv>'
    '<tuv xml:lang="de"><seg>b</seg></tuv></tu></body></tmx>'
)


def refused(tmp_path: Path, text: str) -> str:
    (tmp_path / "x").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read("tmx", tmp_path / "x")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("doctype", [text for text in DOCTYPES if "[" in text])
def test_declarations_of_entities_are_refused(tmp_path: Path, doctype: str) -> None:
    message = refused(tmp_path, doctype + BODY % "&x;")
    assert message.startswith(f"{tmp_path}/x:1: refused for declarations of its own")


@pytest.mark.parametrize("doctype", [text for text in DOCTYPES if "[" not in text])
def test_external_declarations_are_not_read(tmp_path: Path, doctype: str) -> None:
    (tmp_path / "x").write_text(doctype + BODY % "a&x;", encoding="utf-8")
    pairs, report = read("tmx", tmp_path / "x")
    assert (pairs, skipped(report)) == ([], {INVALID_UTF8: 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a>" * 300, "deeper nesting"),
        (f'<a b="{"c" * 3_000_000}', "a tag longer"),
        (f"<!--{'c' * 3_000_000}", "a tag longer"),
        (f"<?p {'c' * 3_000_000}", "a tag longer"),
        (f"<{'c' * 3_000_000}", "a tag longer"),
        ("<a>" + "".join(f"<n{number}/>" for number in range(20_000)), "more names"),
    ],
)
def test_what_would_fill_memory_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert f": refused for {message} " in refused(tmp_path, text)


@pytest.mark.parametrize(
    "text", ["", "no XML", BODY[:-5] % "a", BODY % "<", "<?xml version='1.0' encoding='zz'?><a/>"]
)
def test_what_is_not_well_formed_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    message = refused(tmp_path, "\n" * (text != "" and text[0] != "<") + text)
    assert message.startswith(f"{tmp_path}/x:")
    assert ": not well-formed XML: " in message


@pytest.mark.parametrize(
    "reference", ["&#x1F;", "&#31;", "&#xD800;", "&#x110000;", "&#xFFFF;", "&nbsp;"]
)
def test_a_reference_to_no_character_costs_its_record(tmp_path: Path, reference: str) -> None:
    unit = BODY[BODY.index("<tu>") : BODY.index("</body>")]
    units = (BODY % "a").replace("</body>", unit % reference + "</body>")
    (tmp_path / "x").write_text(units, encoding="utf-8")
    pairs, report = read("tmx", tmp_path / "x")
    assert (pairs, skipped(report)) == ([("a", "b")], {INVALID_UTF8: 1})


@pytest.mark.parametrize("split", range(1, 16))
def test_references_may_lie_across_chunks(tmp_path: Path, split: int) -> None:
    text = BODY % "&amp;&#x41;&#31;"
    padding = (1 << 16) - text.index("&amp;") - split - len("<!---->")
    whole = f"<!--{'c' * padding}-->{text}"
    (tmp_path / "x").write_text(whole, encoding="utf-8")
    pairs, report = read("tmx", tmp_path / "x")
    assert (pairs, skipped(report)) == ([], {INVALID_UTF8: 1})
    (tmp_path / "x").write_text(whole.replace("&#31;", ""), encoding="utf-8")
    assert read("tmx", tmp_path / "x")[0] == [("&A", "b")]
