import pytest

from tsjt_ds.data.formats import format_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/x.tsv", "tsv"),
        ("x.jsonl.zst", "jsonl"),
        ("s3://b/x.TMX.GZ", "tmx"),
        ("x-src.en.sgm", "sgm"),
        ("x.xlf", "xliff"),
        ("newstest.xml.xz", "wmt_xml"),
        ("x.parquet", "parquet"),
        ("x.en.gz", None),
        ("x.gz", None),
        ("", None),
    ],
)
def test_the_ending_below_compression_tells_the_format(name: str, expected: str | None) -> None:
    assert format_of(name) == expected
