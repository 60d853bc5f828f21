"""How evenly the routers use the experts."""

import json
from pathlib import Path

from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.engine.router_counts import RouterShares

ROUTER_LOAD = "router_load.jsonl"
DEAD_SHARE = 0.1
"""An expert with less than this part of an even share is called dead."""


class RouterLoadHook:
    """Records every expert's share of the choices, and warns of dead ones (collective).

    Args:
        directory: where ``router_load.jsonl`` is kept: a line a recorded step, with the share of
            choices that fell on each expert, and of those dropped for want of room, by router,
            over the step's micro-batches on all ranks.
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
        shares = engine.router_shares()
        if not shares or not engine.world.is_main:
            return
        record = {
            "step": step,
            "load": {router: each.load for router, each in shares.items()},
            "dropped": {router: each.dropped for router, each in shares.items()},
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        dead = dead_experts(shares)
        for router, number in sorted(dead - self.dead):
            print(
                f"warning: step {step + 1}: expert {number} of {router} gets almost no tokens "
                "(raise model.routing.load_balancing)",
                flush=True,
            )
        self.dead |= dead


def dead_experts(shares: dict[str, RouterShares]) -> set[tuple[str, int]]:
    """(router, expert) of those that get less than a tenth of an even share."""
    return {
        (router, number)
        for router, each in shares.items()
        for number, share in enumerate(each.load)
        if share * len(each.load) < DEAD_SHARE
    }
