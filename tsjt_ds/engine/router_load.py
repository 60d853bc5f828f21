"""How evenly the routers use the experts."""

import json
from pathlib import Path

from tsjt_ds.engine.engine import Engine, StepResult

ROUTER_LOAD = "router_load.jsonl"
DEAD_SHARE = 0.1
"""An expert with less than this part of an even share is called dead."""


class RouterLoadHook:
    """Records every expert's share of the routed tokens, and warns of dead ones (collective).

    Args:
        directory: where ``router_load.jsonl`` is kept: a line a recorded step, with the shares of
            each sparse layer's experts over the step's micro-batches on all ranks.
        interval: steps between records.
    """

    def __init__(self, directory: Path, interval: int) -> None:
        self.path, self.interval = directory / ROUTER_LOAD, interval
        self.dead: set[tuple[str, int]] = set()

    def on_step_begin(self, engine: Engine, step: int) -> None:
        """Nothing."""

    def on_step_end(self, engine: Engine, step: int, result: StepResult) -> None:
        """Record the step if it is one of those."""
        if (step + 1) % self.interval:
            return
        loads = engine.router_loads()
        if not loads or not engine.world.is_main:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "load": loads}) + "\n")
        for layer, number in dead_experts(loads) - self.dead:
            print(
                f"warning: step {step + 1}: expert {number} of {layer} gets almost no tokens "
                "(raise model.routing.load_balancing)",
                flush=True,
            )
        self.dead |= dead_experts(loads)


def dead_experts(loads: dict[str, list[float]]) -> set[tuple[str, int]]:
    """(layer, expert) of those that get less than a tenth of an even share."""
    return {
        (layer, number)
        for layer, shares in loads.items()
        for number, share in enumerate(shares)
        if share * len(shares) < DEAD_SHARE
    }
