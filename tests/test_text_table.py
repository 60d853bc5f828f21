import pytest

from tsjt_ds.text_table import align


@pytest.mark.parametrize(
    ("sides", "text"),
    [
        ("<>", "a     1  x\nbb  100   "),
        (">", " a    1  x\nbb  100   "),
        ("<", "a   1    x\nbb  100  "),
    ],
)
def test_columns_stand_to_their_sides(sides: str, text: str) -> None:
    lines = [line.rstrip() for line in text.split("\n")]
    assert align([["a", "1", "x"], ["bb", "100", ""]], sides).split("\n") == lines
