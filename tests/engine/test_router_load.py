"""What is recorded of routers, and the warning of dead experts."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.engine.router_counts import RouterShares
from tsjt_ds.engine.router_load import ROUTER_LOAD, RouterLoadHook

ROUTER = "encoder.1.routers.4"


def step_end(hook: RouterLoadHook, step: int, load: list[float]) -> None:
    shares = {ROUTER: RouterShares(load, dropped=0.25)}
    world = SimpleNamespace(is_main=True)
    engine: Any = SimpleNamespace(router_shares=lambda: shares, world=world)
    hook.on_step_end(cast(Engine, engine), step, cast(StepResult, None))


def test_a_dead_expert_is_warned_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = RouterLoadHook(tmp_path, interval=2)
    step_end(hook, 0, [1.0, 0.0, 0.0, 0.0])  # Not a step that is recorded.
    step_end(hook, 1, [0.35, 0.026, 0.3, 0.324])
    assert capsys.readouterr().out == ""
    for step in (3, 5):
        step_end(hook, step, [0.35, 0.3, 0.326, 0.024])
    assert capsys.readouterr().out == (
        f"warning: step 4: expert 3 of {ROUTER} gets almost no tokens "
        "(raise model.routing.load_balancing)\n"
    )
    records = [json.loads(line) for line in (tmp_path / ROUTER_LOAD).read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 3, 5]
    assert records[0]["load"] == {ROUTER: [0.35, 0.026, 0.3, 0.324]}
    assert records[0]["dropped"] == {ROUTER: 0.25}
