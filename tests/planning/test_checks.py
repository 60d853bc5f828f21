"""What is looked at of a frozen teacher before training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.model.test_teacher import another_tokenizer, prepare, student, write_run
from tests.tiny import VOCAB
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.checkpoint_files import STATE, checkpoint_path
from tsjt_ds.errors import UserError
from tsjt_ds.model.teacher_run import teacher_ahead
from tsjt_ds.planning.checks import Checked, check


def checked(run: Path, capacity: str = "big") -> Checked:
    """The recipe that the run teaches, before its data are prepared."""
    values = student(run, capacity).model_dump(mode="json")
    values["data"]["prepared"] = "nowhere"
    path = run.parent / "student.yaml"
    path.write_text(yaml.safe_dump(values))
    return check(path, None, [], None)


def test_a_teacher_that_fits(tmp_path: Path) -> None:
    found = checked(write_run(tmp_path))
    assert found.teacher is not None
    assert "big" in found.teacher.model.capacities
    assert found.awaited == ""


def test_a_teacher_that_is_not_there_yet(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    shutil.rmtree(checkpoint_path(run, 1))
    found = checked(run)
    assert found.teacher is not None
    assert found.awaited == f"{run}: no checkpoint yet"
    shutil.rmtree(run)
    found = checked(run)
    assert (found.teacher, found.awaited) == (None, f"{run}: no run yet")


def other_vocabulary(run: Path) -> None:
    shutil.rmtree(run.parent)
    write_run(run.parent, vocab_size=2 * VOCAB)


def other_data(run: Path) -> None:
    path = checkpoint_path(run, 1) / STATE
    state = json.loads(path.read_text())
    state["identity"]["data"] = "another"
    path.write_text(json.dumps(state))


def no_data(run: Path) -> None:
    shutil.rmtree(run.parent / "prepared")


MISTAKES: dict[Callable[[Path], None], str] = {
    other_vocabulary: "has 128 tokens, not 64",
    other_data: "is not the prepared data that",
    no_data: "prepared: holds no prepared data",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_teacher_that_does_not_fit_is_one_line(
    tmp_path: Path, mistake: Callable[[Path], None]
) -> None:
    run = write_run(tmp_path / "teacher")
    mistake(run)
    with pytest.raises(UserError, match=f"^teacher: .*{MISTAKES[mistake]}") as caught:
        checked(run)
    assert "\n" not in str(caught.value)


def test_no_such_capacity_or_tokenizer(tmp_path: Path) -> None:
    run = write_run(tmp_path / "teacher")
    with pytest.raises(UserError, match=r"^teacher: .*no capacity 'bag'.*'big'"):
        checked(run, "bag")
    other = PreparedData.open(another_tokenizer(run))
    with pytest.raises(UserError, match=r"another tokenizer than that of .*other"):
        teacher_ahead(student(run), other, 1)
    same = PreparedData.open(prepare(tmp_path / "same"))
    assert teacher_ahead(student(run), same, 1)[1] == ""
