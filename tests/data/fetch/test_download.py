"""Where files lie in the cache."""

from pathlib import Path

import pytest

from tsjt_ds.data.fetch.download import Download


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.org/x/corpus.tsv.gz", "corpus.tsv.gz"),
        ("https://a.org/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://a.org/x/%2e%2e", "file"),
        ("https://a.org/", "file"),
        ("https://a.org/get?id=../../x", "get"),
        ("s3://bucket/a/b.parquet", "b.parquet"),
    ],
)
def test_names_in_the_cache_stay_below_it(cache: Path, url: str, name: str) -> None:
    path = Download(url).path
    assert path.name == name
    assert path.resolve().is_relative_to(cache / "files")
    assert path != Download(f"{url}?other").path


def test_what_it_is_becomes_the_name() -> None:
    assert Download("https://a.org/uc?id=1", "tar.gz").path.name == "uc.tar.gz"
    assert Download("https://a.org/a.txt.gz", "tsv.gz").path.name == "a.txt.gz"
