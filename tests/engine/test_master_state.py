"""The optimizer's state as a checkpoint puts it back."""

import pytest
import torch

from tsjt_ds.engine.master_state import MasterState


@pytest.mark.parametrize(("option", "place"), [("fused", "meta"), ("foreach", "cpu")])
def test_counters_are_where_the_kernel_reads_them(option: str, place: str) -> None:
    weight = torch.nn.Parameter(torch.zeros(2, device="meta"))
    optimizer = torch.optim.AdamW([weight])
    optimizer.param_groups[0][option] = True
    MasterState(optimizer).prepare(["exp_avg", "exp_avg_sq"], {"step": 3.0})
    state = optimizer.state[weight]
    assert state["step"].device.type == place
    assert state["exp_avg"].device.type == "meta"
