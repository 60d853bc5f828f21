"""Train a tiny composite on made-up rows in some layout; run on every rank."""

from typing import Any

import numpy as np
import torch

from tests.tiny import random_rows, target_tokens
from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.deepspeed_sections import TsjtSection
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.engine import Engine, StepResult, build_engine
from tsjt_ds.engine.hook import JointLossHook
from tsjt_ds.engine.schedule import joint_schedule
from tsjt_ds.model.composite import Composite
from tsjt_ds.parallel.groups import World

ROWS_PER_STEP = 8
MICRO_BATCH_ROWS = 2
RATE = 5e-3


def deepspeed_config(
    world: World, partition: str | list[int] = "cost", **raw: Any
) -> DeepSpeedConfig:
    """ZeRO-1, AdamW and clipping, for the same step in every layout."""
    layout = world.layout
    accumulation = ROWS_PER_STEP // MICRO_BATCH_ROWS // layout.data
    values = {
        "train_batch_size": ROWS_PER_STEP,
        "train_micro_batch_size_per_gpu": MICRO_BATCH_ROWS,
        "gradient_accumulation_steps": accumulation,
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": RATE, "weight_decay": 0.01, "torch_adam": True},
        },
        "gradient_clipping": 0.5,
        "zero_optimization": {"stage": 1, "reduce_bucket_size": 10**6},
        **raw,
    }
    return DeepSpeedConfig(
        raw=values,
        tsjt=TsjtSection.model_validate(
            {"pipeline": layout.pipeline, "tensor": layout.tensor, "partition": partition}
        ),
        inverse_sqrt=None,
        zero_stage=values["zero_optimization"]["stage"],
        precision=next((name for name in ("bf16", "fp16") if name in values), "fp32"),
        data_parallel=layout.data,
        micro_batch_rows=MICRO_BATCH_ROWS,
        accumulation=accumulation,
    )


def make_engine(world: World, recipe: Recipe, owner_groups: bool = False, **raw: Any) -> Engine:
    """An engine with the joint-loss hook."""
    torch.set_num_threads(1)
    engine = build_engine(Composite(recipe), world, deepspeed_config(world, **raw), owner_groups)
    engine.hooks.append(JointLossHook(joint_schedule(recipe.schedule), row_target_tokens))
    return engine


def row_target_tokens(step: int) -> np.ndarray:
    """Target tokens of each row of a step."""
    return np.array([target_tokens(row[None]) for row in step_rows(step)])


def step_rows(step: int) -> torch.Tensor:
    """All rows of a step, in the plan's order."""
    return random_rows(ROWS_PER_STEP, seed=step)


def train(engine: Engine, steps: range) -> list[StepResult]:
    """Train on the rows that fall to this rank."""
    data, rank = engine.world.layout.data, engine.world.coordinates.data
    return [
        engine.train_step(step, iter(step_rows(step).split(MICRO_BATCH_ROWS)[rank::data]))
        for step in steps
    ]


def with_stages(recipe: Recipe, *stages: dict[str, Any]) -> Recipe:
    """The recipe with other stages; ``steps`` is 100 where it is left out."""
    numbered = [{"name": f"stage{i}", "steps": 100, **stage} for i, stage in enumerate(stages)]
    return Recipe.model_validate(recipe.model_dump() | {"schedule": {"stages": numbered}})


def losses(world: World, recipe: Recipe, steps: int, raw: dict[str, Any]) -> list[dict[str, float]]:
    """Per-capacity losses, objective and gradient norm of the first steps."""
    results = train(make_engine(world, recipe, owner_groups=True, **raw), range(steps))
    return [
        {**r.losses, "objective": r.objective, "grad_norm": r.grad_norm or 0.0} for r in results
    ]
