"""Prepared digit strings, shared by the system tests."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.digits import digits_recipe, write_digits
from tests.system.runs import tsjt

STEPS = 520


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``recipe.yaml`` and the prepared data."""
    directory = tmp_path_factory.mktemp("digits")
    write_digits(directory)
    (directory / "recipe.yaml").write_text(digits_recipe(directory, STEPS))
    tsjt("prepare", directory / "recipe.yaml")
    return directory


def write_config(path: Path, pipeline: int = 1, **tsjt_keys: Any) -> Path:
    """A DeepSpeed file for the digits: 16 rows a step, fp32, ZeRO-1."""
    path.write_text(
        json.dumps(
            {
                "tsjt": {"pipeline": pipeline, "log_interval": 50, **tsjt_keys},
                "train_micro_batch_size_per_gpu": 4,
                "gradient_accumulation_steps": 4,
                "optimizer": {
                    "type": "Adam",
                    "params": {"lr": 3e-3, "betas": [0.9, 0.98], "torch_adam": True},
                },
                "scheduler": {"type": "InverseSqrt", "params": {"warmup_num_steps": 200}},
                "gradient_clipping": 1.0,
                "zero_optimization": {"stage": 1, "reduce_bucket_size": 10**6},
            }
        )
    )
    return path
