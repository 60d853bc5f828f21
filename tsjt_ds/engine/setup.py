"""What all lines of a run share on this rank: data, engine, identity."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.training_data import TrainingData
from tsjt_ds.engine.engine import Engine, EngineHook
from tsjt_ds.engine.meter import Meter
from tsjt_ds.engine.stop import StopRequest
from tsjt_ds.engine.watchdog import Watchdog
from tsjt_ds.parallel.groups import World


@dataclass(frozen=True)
class Setup:
    """Made once a run, by the trainer."""

    recipe: Recipe
    config: DeepSpeedConfig
    world: World
    prepared: PreparedData
    data: TrainingData
    engine: Engine
    meter: Meter
    stop: StopRequest
    watchdog: Watchdog
    identity: dict[str, Any]
    """What a checkpoint must agree on to be loaded."""
    hooks: Callable[[Path], list[EngineHook]]
    """Further hooks of a line that keeps its records in a directory."""

    def say(self, message: str) -> None:
        """Tell the user, from one rank."""
        if self.world.is_main:
            print(message, flush=True)
