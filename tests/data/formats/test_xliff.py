from pathlib import Path

import pytest

from tests.data.formats.reading import read, skipped
from tsjt_ds.data.report import EMPTY, LANGUAGE

# As translate-toolkit 3.20 writes it, and with alternatives, states and groups.
VERSION_1 = """<?xml version="1.0" encoding="UTF-8"?>
<xliff xmlns="urn:oasis:names:tc:xliff:document:1.1" version="1.1">
  <file original="NoName" source-language="en" datatype="po" target-language="de">
    <body>
      <group><trans-unit id="1" xml:space="preserve">
        <source>Hello &amp; <g id="1">you</g><x id="2"/></source>
        <seg-source><mrk mtype="seg">Hello</mrk></seg-source>
        <target state="translated">Hallo &amp; <bpt id="1">&lt;b></bpt>du</target>
        <alt-trans><source>Hi</source><target>Grüß dich</target></alt-trans>
      </trans-unit></group>
      <trans-unit id="2"><source>untranslated</source></trans-unit>
    </body>
  </file>
</xliff>
"""
VERSION_2 = """<?xml version="1.0" encoding="UTF-8"?>
<xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="en" trgLang="de">
  <file id="f"><unit id="1" xmlns:mtc="urn:oasis:names:tc:xliff:matches:2.0">
    <mtc:matches><mtc:match><source>Hi</source><target>Grüß dich</target></mtc:match></mtc:matches>
    <segment><source>Hello &amp; <pc id="1">you</pc></source><target>Hallo &amp; du</target>
    </segment>
    <ignorable><source> </source></ignorable>
    <segment><source>untranslated</source></segment>
  </unit></file>
</xliff>
"""


@pytest.mark.parametrize("text", [VERSION_1, VERSION_2])
@pytest.mark.parametrize(("pair", "turned"), [("en-de", False), ("de-en", True)])
def test_units_are_read_in_the_order_of_the_pair(
    tmp_path: Path, text: str, pair: str, turned: bool
) -> None:
    (tmp_path / "x").write_text(text, encoding="utf-8")
    pairs, report = read("xliff", tmp_path / "x", pair=pair)
    expected = ("Hello & you", "Hallo & du")
    assert pairs == [expected[::-1] if turned else expected]
    assert skipped(report) == {EMPTY: 1}


def test_a_file_without_its_target_language_goes_by_the_source(tmp_path: Path) -> None:
    text = VERSION_1.replace(' target-language="de"', "")
    (tmp_path / "x").write_text(text, encoding="utf-8")
    assert read("xliff", tmp_path / "x", pair="de-en")[0] == [("Hallo & du", "Hello & you")]


def test_other_languages_are_counted(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(VERSION_2, encoding="utf-8")
    assert skipped(read("xliff", tmp_path / "x", pair="en-fr")[1]) == {LANGUAGE: 2}
