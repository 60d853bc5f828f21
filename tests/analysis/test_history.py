import pytest

from tsjt_ds.analysis.history import Spent, Validation, curve, read_records, spent
from tsjt_ds.errors import UserError


def test_a_line_that_a_kill_cut_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_records(path) == []
    path.write_text('{"step": 0}\n{"step": 1}\n{"ste')
    assert read_records(path) == [{"step": 0}, {"step": 1}]
    path.write_text('{"step": 0}\n{"ste\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: is no JSON object"):
        read_records(path)


def test_a_line_is_the_sum_of_its_steps():
    steps = [{"target_tokens": 40 + i, "flops": 1e9, "seconds": 0.5} for i in range(3)]
    assert spent(steps, [{"seconds": 2.0}]) == Spent(3, 123, 3e9, 3.5)
    del steps[1]["flops"]
    assert spent(steps, []).flops is None
    assert Spent(1, 2, 3.0, 4.0) + Spent(10, 20, 30.0, 40.0) == Spent(11, 22, 33.0, 44.0)
    assert (Spent(1, 2, 3.0, 4.0) + Spent(10, 20, None, 40.0)).flops is None


def test_a_curve_goes_on_in_the_capacity_s_own_line():
    def record(step, **mean):
        return {"step": step, "target_tokens": 5 * step, "flops": 7.0 * step, "mean": mean}

    joint = [record(10, low=3.0, high=2.5), record(20, low=float("nan"), high=2.0)]
    own = [record(20, low=2.8), record(30, low=2.4)]
    assert curve([*joint, *own], "low") == [
        Validation(10, 50, 70.0, 3.0),
        Validation(20, 100, 140.0, 2.8),
        Validation(30, 150, 210.0, 2.4),
    ]
