from pathlib import Path

import pytest
from sacrebleu.dataset.wmt_xml import WMTXMLDataset

from tests.data.formats.reading import read, skipped
from tsjt_ds.data.report import EMPTY
from tsjt_ds.errors import UserError

TEXT = """<?xml version='1.0' encoding='utf-8'?>
<dataset id="newstest2021"><collection id="general">
<doc origlang="en" id="d1"><src lang="en"><p><seg id="1">One &amp; two.</seg>
<seg id="2">Three.</seg></p></src>
<ref lang="de" translator="A"><p><seg id="1">Eins &amp; zwei.</seg><seg id="2">Drei.</seg></p></ref>
<ref lang="de" translator="B"><p><seg id="1">Ein</seg><seg id="2">Dr.</seg></p></ref>
<hyp lang="de" system="s"><p><seg id="1">x</seg><seg id="2">y</seg></p></hyp></doc>
<doc origlang="en" id="t" testsuite="s"><src lang="en"><seg id="1">suite</seg></src></doc>
<doc origlang="en" id="d2"><src lang="en"><p><seg id="1">Four.</seg><seg id="2">Five.</seg></p>
</src><ref lang="de" translator="A"><seg id="2">Fünf.</seg><seg id="1">Vier.</seg></ref></doc>
</collection></dataset>
"""


def test_segments_are_those_of_sacrebleu(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(TEXT, encoding="utf-8")
    fields = WMTXMLDataset._unwrap_wmt21_or_later(str(tmp_path / "x.xml"))
    expected = list(zip(fields["src"], fields["ref:A"], strict=True))
    assert len(expected) == 4
    assert read("wmt_xml", tmp_path / "x.xml")[0] == expected
    turned = read("wmt_xml", tmp_path / "x.xml", pair="de-en")[0]
    assert sorted(turned) == sorted((target, source) for source, target in expected)


def test_a_segment_without_a_reference_is_counted(tmp_path: Path) -> None:
    text = TEXT.replace('<seg id="2">Fünf.</seg>', "")
    (tmp_path / "x.xml").write_text(text, encoding="utf-8")
    pairs, report = read("wmt_xml", tmp_path / "x.xml")
    assert len(pairs) == 3
    assert skipped(report) == {EMPTY: 1}


def test_an_endless_document_is_refused(tmp_path: Path) -> None:
    segments = "".join(f'<seg id="{number}">s</seg>' for number in range(20_001))
    text = f'<dataset><doc id="d"><src lang="en">{segments}</src></doc></dataset>'
    (tmp_path / "x.xml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.xml:1: a document of more than 20,000 segments"):
        read("wmt_xml", tmp_path / "x.xml")
