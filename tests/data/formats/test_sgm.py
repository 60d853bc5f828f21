from pathlib import Path

import pytest
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from tests.data.formats.reading import read, skipped
from tsjt_ds.data.report import EMPTY, INVALID_UTF8, TOO_LONG
from tsjt_ds.errors import UserError

SOURCE = """<srcset setid="newstest2018" srclang="any">
<doc sysid="ref" docid="a.1" genre="news" origlang="cs">
<p>
<seg id="1">A  &quot;quote&quot; &amp; &lt;tag&gt;</seg>
<seg id="2">R&D <b>5 < 6</b></seg>
</p>
</doc>
<DOC docid="b.2" origlang="en">
<seg id="1"> Third\u2028one. </seg>
</DOC>
</srcset>
"""
TARGET = SOURCE.replace("srcset", "refset").replace("Third", "Drittes").replace("A  ", "Ein ")


def write(tmp_path: Path, source: str, target: str) -> tuple[Path, Path]:
    files = tmp_path / "x-src.en.sgm", tmp_path / "x-ref.de.sgm"
    for file, text in zip(files, (source, target), strict=True):
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    return files


def by_sacrebleu(file: Path, tmp_path: Path) -> list[str]:
    dataset = FakeSGMLDataset("x", langpairs={})
    dataset._convert_format(str(file), str(tmp_path / "out"))
    return (tmp_path / "out").read_text(encoding="utf-8").removesuffix("\n").split("\n")


def test_segments_are_those_of_sacrebleu(tmp_path: Path) -> None:
    files = write(tmp_path, SOURCE, TARGET)
    pairs, _ = read("sgm", *files)
    tokenizer = Tokenizer13a()
    for file, side in zip(files, zip(*pairs, strict=True), strict=True):
        # Its tokenizer resolves the entities that its text still has.
        expected = [tokenizer(line) for line in by_sacrebleu(file, tmp_path)]
        assert [tokenizer(text) for text in side] == expected
    assert pairs[0][0] == 'A "quote" & <tag>'


def test_segments_are_aligned_by_their_ids(tmp_path: Path) -> None:
    lines = TARGET.splitlines(keepends=True)
    turned = "".join([lines[0], *lines[7:10], *lines[1:7], lines[10]])
    moved = turned.replace('<seg id="2">', "\n<SEG  genre=x ID=2 >\n")
    pairs, report = read("sgm", *write(tmp_path, SOURCE, moved))
    assert sorted(pairs) == sorted(read("sgm", *write(tmp_path, SOURCE, TARGET))[0])
    assert not skipped(report)


def test_segments_of_one_side_are_counted(tmp_path: Path) -> None:
    target = TARGET.replace('<seg id="2">', '<seg id="7">')
    files = write(tmp_path, SOURCE, target)
    pairs, report = read("sgm", *files)
    assert len(pairs) == 2
    assert report.places == {
        EMPTY: [
            f"{files[0]}: segment 2 of a.1 alone",
            f"{files[1]}: segment 7 of a.1 alone",
        ]
    }


def test_broken_and_long_segments_are_counted(tmp_path: Path) -> None:
    target = TARGET.replace("R&D", "\udcff").replace("Drittes", ("x" * 1023 + "\n") * 1025)
    _, report = read("sgm", *write(tmp_path, SOURCE, target))
    assert skipped(report) == {INVALID_UTF8: 1, TOO_LONG: 1}


@pytest.mark.parametrize(("count", "text"), [(20_000, "s"), (20, "s" * 1_000_000)])
def test_files_of_two_test_sets_are_told(tmp_path: Path, count: int, text: str) -> None:
    segments = "\n".join(f'<seg id="{number}">{text}</seg>' for number in range(count))
    with pytest.raises(UserError, match=r"too many segments have no counterpart \(give the two"):
        read("sgm", *write(tmp_path, f'<doc docid="a">{segments}', TARGET))
