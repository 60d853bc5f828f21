import re
from pathlib import Path

import pytest

from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.corpora import Part, check_files, corpora_of
from tsjt_ds.data.fetch.located import CACHE_VARIABLE
from tsjt_ds.errors import UserError


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def config(directory: Path, **values: object) -> DataConfig:
    names = {split: f"{directory}/{split}.{{pair}}.tsv" for split in ("train", "dev", "test")}
    return DataConfig.model_validate(
        {"prepared": str(directory / "p"), "pairs": ["en-de", "en-fr"], **names, **values}
    )


def touch_all(directory: Path) -> None:
    for split in ("train", "dev", "test"):
        for pair in ("en-de", "en-fr"):
            (directory / f"{split}.{pair}.tsv").touch()


def test_placeholders_are_filled(tmp_path: Path) -> None:
    moses = {"source": "x/{pair}.{source}", "target": "x/{pair}.{target}"}
    corpora = corpora_of(config(tmp_path, train=["a.{pair}", moses]), "train", "en-fr")
    assert [corpus.paths for corpus in corpora] == [
        [Path("a.en-fr")],
        [Path("x/en-fr.en"), Path("x/en-fr.fr")],
    ]
    assert [corpus.key for corpus in corpora] == ["data.train.0", "data.train.1"]


def test_unknown_placeholder_is_refused(tmp_path: Path) -> None:
    for name in ("x.{lang}", "x.{pair.tsv}", "x.{pair[tsv]}"):
        expected = re.escape(f"data.dev: '{name}' has an unknown placeholder")
        with pytest.raises(UserError, match=expected):
            check_files(config(tmp_path, dev=name))


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    for name in ("train.en-de", "dev.en-de", "dev.en-fr", "test.en-fr"):
        (tmp_path / f"{name}.tsv").touch()
    with pytest.raises(UserError) as error:
        check_files(config(tmp_path))
    assert str(error.value).splitlines() == [
        f"{tmp_path}/train.en-fr.tsv: no such file (data.train for en-fr)",
        f"{tmp_path}/test.en-de.tsv: no such file (data.test for en-de)",
    ]


def test_one_file_for_two_pairs_is_refused(tmp_path: Path) -> None:
    touch_all(tmp_path)
    with pytest.raises(UserError, match=r"data\.train names it for en-de and for en-fr"):
        check_files(config(tmp_path, train=f"{tmp_path}/train.en-de.tsv"))


@pytest.mark.parametrize("name", ["all.tmx", "all.xlf", "all.xml"])
def test_one_file_that_tells_languages_may_serve_all_pairs(tmp_path: Path, name: str) -> None:
    touch_all(tmp_path)
    (tmp_path / name).touch()
    check_files(config(tmp_path, train=f"{tmp_path}/{name}"))


def test_patterns_are_filled_and_sorted(tmp_path: Path) -> None:
    for name in ("b.en-de", "a.en-de", "a.en-fr"):
        (tmp_path / f"{name}.jsonl.gz").touch()
    (tmp_path / "c.en-de.jsonl.gz").mkdir()
    data = config(tmp_path, train=f"{tmp_path}/*.{{pair}}.jsonl.gz")
    (corpus,) = corpora_of(data, "train", "en-de")
    assert [path.name for path in corpus.paths] == ["a.en-de.jsonl.gz", "b.en-de.jsonl.gz"]
    assert corpus.files == tuple((Part(path),) for path in corpus.paths)
    assert corpus.format == "jsonl"


def test_patterns_of_two_sides_go_together(tmp_path: Path) -> None:
    for name in ("1.en", "1.de", "2.en", "2.de"):
        (tmp_path / name).touch()
    sides = {"source": f"{tmp_path}/*.{{source}}", "target": f"{tmp_path}/*.{{target}}"}
    (corpus,) = corpora_of(config(tmp_path, train=sides), "train", "en-de")
    names = [[part.path.name for part in parts] for parts in corpus.files]
    assert names == [["1.en", "1.de"], ["2.en", "2.de"]]
    (tmp_path / "3.en").touch()
    with pytest.raises(
        UserError, match=r"data\.train: 3 files match .*\*\.en but 2 match .*\*\.de"
    ):
        corpora_of(config(tmp_path, train=sides), "train", "en-de")


def test_pattern_without_a_match_is_one_line(tmp_path: Path) -> None:
    touch_all(tmp_path)
    with pytest.raises(UserError) as error:
        check_files(config(tmp_path, train=f"{tmp_path}/*.none"))
    assert str(error.value) == f"{tmp_path}/*.none: no file matches (data.train)"


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].tsv").touch()
    (corpus,) = corpora_of(config(tmp_path, train=f"{tmp_path}/a[1].tsv"), "train", "en-de")
    assert corpus.paths == [tmp_path / "a[1].tsv"]


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ("x.{pair}", "tsv"),
        ("x.{pair}.tmx.gz", "tmx"),
        ("x.parquet", "parquet"),
        ({"file": "x.tmx", "format": "tsv"}, "tsv"),
        ({"source": "x.{source}", "target": "x.{target}.gz"}, "text"),
        ({"source": "x.{source}", "target": "x.tsv"}, "text"),
        ({"source": "src.{source}.sgm", "target": "ref.{target}.sgm"}, "sgm"),
    ],
)
def test_format_is_told_by_the_name(tmp_path: Path, corpus: object, expected: str) -> None:
    (found,) = corpora_of(config(tmp_path, train=corpus), "train", "en-de")
    assert found.format == expected


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("src.{pair}.sgm", "sgm has one file a side"),
        ({"source": "a.tmx", "target": "b.tmx"}, "tmx has both sides in one file"),
        ({"source": "a.sgm", "target": "b.de"}, "different formats: sgm, text"),
        ({"file": "a.tmx", "columns": [0, 1]}, "columns are of TSV, JSONL and Parquet"),
        ({"file": "a.jsonl", "columns": ["en", "{lang}"]}, "has an unknown placeholder"),
    ],
)
def test_formats_that_do_not_fit_are_refused(tmp_path: Path, corpus: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"data\.train: .*{message}"):
        corpora_of(config(tmp_path, train=corpus), "train", "en-de")


def test_columns_limit_and_weight_are_passed_on(tmp_path: Path) -> None:
    corpus = {"file": "a.jsonl", "columns": ["text.{source}", "text.{target}"], "limit": 7}
    data = config(tmp_path, train=[{**corpus, "weight": 2.0, "pairs": ["en-fr"]}, "{pair}.tsv"])
    first, second = corpora_of(data, "train", "en-fr")
    assert (first.columns, first.limit, first.weight) == (("text.en", "text.fr"), 7, 2.0)
    assert (second.columns, second.limit, second.weight) == (None, None, 1.0)
    assert [c.key for c in corpora_of(data, "train", "en-de")] == ["data.train.1"]


def test_a_reverse_direction_has_the_corpora_named_for_it_alone(tmp_path: Path) -> None:
    data = config(tmp_path, test=["{pair}.tsv", {"file": "r.tsv", "pairs": ["de-en"]}])
    assert [c.paths for c in corpora_of(data, "test", "de-en")] == [[Path("r.tsv")]]
    assert [c.paths for c in corpora_of(data, "test", "en-de")] == [[Path("en-de.tsv")]]


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        ({"sacrebleu": "wmt18"}, "wmt18 for en-de"),
        ({"mtdata": "Statmt-europarl-9-deu-eng"}, "Statmt-europarl-9-deu-eng en-de"),
        ("https://example.org/{pair}.tsv", "https://example.org/en-de.tsv"),
        ("s3://bucket/*.{pair}.tsv", r"s3://bucket/\*.en-de.tsv"),
    ],
)
def test_what_is_not_fetched_is_named_unless_it_is_to_be(
    tmp_path: Path, corpus: object, name: str
) -> None:
    touch_all(tmp_path)
    data = config(tmp_path, train=corpus)
    check_files(data, fetched=False)
    with pytest.raises(UserError, match=rf"data\.train: .*{name} is not in the cache .*prepare"):
        check_files(data)
