import io
import sys

import pytest

from tests.export.runs import make_run, sentences
from tsjt_ds.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    return make_run(tmp_path, monkeypatch)


@pytest.fixture
def translate(run, monkeypatch, capfdbinary):
    """Run the command on bytes; gives (exit status, stdout, stderr)."""

    def call(raw, *arguments, capacity="low"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        stdout = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", stdout)
        status = main(
            ["translate", str(run.path), "--capacity", capacity, "--threads", "1", *arguments]
        )
        return status, stdout.buffer.getvalue().decode(), capfdbinary.readouterr().err.decode()

    return call


def test_one_line_out_for_each_line_in(translate):
    lines = ["", *sentences("en", 5, 3), "", "two  spaces "]
    raw = "\n".join(lines).encode()
    status, out, err = translate(raw, "--from", "en", "--to", "de", "--block", "3")
    assert (status, err) == (0, "")
    outputs = out.split("\n")
    assert outputs.pop() == ""
    assert [bool(text) for text in outputs] == [bool(line) for line in lines]
    alone = translate(lines[3].encode() + b"\r\n", "--from", "en", "--to", "de")[1]
    assert alone == outputs[3] + "\n"


def test_beam_size_is_the_recipes_unless_given(translate):
    raw = "\n".join(sentences("en", 20, 4)).encode()
    arguments = ("--from", "en", "--to", "hi")
    as_recipe = translate(raw, *arguments)[1]
    assert translate(raw, *arguments, "--beam-size", "2")[1] == as_recipe
    assert translate(raw, *arguments, "--beam-size", "1")[1] != as_recipe


def test_capacities_differ(translate):
    raw = "\n".join(sentences("en", 5, 4)).encode()
    outputs = [
        translate(raw, "--from", "en", "--to", "de", capacity=capacity)[1]
        for capacity in ("low", "high")
    ]
    assert outputs[0] != outputs[1]


def test_the_best_checkpoint(translate, run):
    arguments = ("--from", "en", "--to", "de", "--checkpoint", "best")
    status, _, err = translate(b"x\n", *arguments)
    assert (status, err) == (0, f"{run.path}: no best checkpoint is known: the last is used\n")


def test_untrained_direction_is_said(translate):
    status, out, err = translate(b"x\n", "--from", "hi", "--to", "en")
    assert (status, out.count("\n")) == (0, 1)
    assert err == "hi-en was not trained (trained: en-de, de-en, en-hi)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "en", "--to", "fr"), "no language 'fr' (known: de, en, hi)"),
        (("--from", "xx", "--to", "de"), "no language 'xx'"),
        (("--from", "en", "--to", "de", "--compute-type", "int9"), "CTranslate2"),
    ],
)
def test_mistakes(translate, arguments, message):
    status, out, err = translate(b"x\n", *arguments)
    assert (status, out) == (1, "")
    assert message in err


def test_unknown_capacity(translate):
    status, _, err = translate(b"x\n", "--from", "en", "--to", "de", capacity="hgih")
    assert status == 1
    assert "no capacity 'hgih' (did you mean 'high'?)" in err


def test_invalid_utf8_names_the_line(translate):
    status, _, err = translate(b"good\nbad \xff\n", "--from", "en", "--to", "de")
    assert status == 1
    assert "stdin:2: no valid UTF-8" in err


def test_n_best_with_scores(translate):
    lines = sentences("en", 4, 3)
    raw, arguments = "\n".join(lines).encode(), ("--from", "en", "--to", "de")
    best = translate(raw, *arguments)[1].splitlines()
    status, out, _ = translate(raw, *arguments, "--n-best", "2")
    assert status == 0
    rows = [line.split(" ||| ") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert [row[1] for row in rows[::2]] == best
    scores = [float(row[2]) for row in rows]
    assert all(first >= second for first, second in zip(scores[::2], scores[1::2], strict=True))
    status, _, err = translate(raw, *arguments, "--n-best", "3")
    assert status == 1
    assert "--n-best 3: the beam holds 2 (--beam-size 3)" in err
