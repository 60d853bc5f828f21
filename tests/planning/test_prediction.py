"""Cut, parameters, ZeRO's sizes and bytes sent are those of real ranks."""

from typing import Any

import pytest
import torch

from tests.engine.training import MICRO_BATCH_ROWS, deepspeed_config, make_engine, train
from tests.ranks import run_ranks
from tests.tiny import tiny_recipe
from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.parallel.cut import stage_layers
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.planning.memory import predict_memory, rank_parameters
from tsjt_ds.planning.traffic import predict_traffic

FAMILY = {"low": (1, 1), "high": (3, 2)}


def recipe_of() -> Recipe:
    return tiny_recipe(FAMILY, dropout=0.0)


def config_of(layout: Layout, **raw: Any) -> DeepSpeedConfig:
    return deepspeed_config(World(layout, 0, torch.device("cpu")), **raw)


def all_reduced(call: Any) -> int:
    """Bytes of hidden states that are all-reduced while ``call`` runs."""
    real, total = torch.distributed.all_reduce, 0

    def counting(tensor: torch.Tensor, *args: Any, **more: Any) -> Any:
        nonlocal total
        total += tensor.nbytes if tensor.dim() > 1 and tensor.dtype == torch.float32 else 0
        return real(tensor, *args, **more)

    torch.distributed.all_reduce = counting
    call()
    torch.distributed.all_reduce = real
    return total


def real_sizes(world: World) -> dict[str, Any]:
    engine = make_engine(world, recipe_of())
    optimizer = engine.deepspeed.optimizer
    result: dict[str, Any] = {
        "parameters": sum(p.numel() for _, p in engine.model.canonical_parameters()),
        "weights": sum(flat.nbytes for flat in optimizer.bit16_groups_flat),
    }
    inner = optimizer.optimizer
    state = [p for group in inner.param_groups for p in group["params"]]
    train(engine, range(1))
    moments = [t for values in inner.state.values() for t in values.values() if t.dim()]
    result["optimizer"] = sum(tensor.nbytes for tensor in [*state, *moments])
    result["reduced"] = all_reduced(lambda: train(engine, range(1, 2)))
    if world.layout.pipeline > 1:
        result["parts"] = engine.model.parts
        received = getattr(engine.deepspeed, "pipe_recv_buf", None)
        result["received"] = received[0].nbytes if received else 0
    return result


@pytest.mark.parallel
@pytest.mark.parametrize("layout", [Layout(2, 1, 1), Layout(1, 2, 1), Layout(1, 1, 2)], ids=str)
def test_sizes_are_those_of_real_ranks(layout: Layout) -> None:
    recipe, config = recipe_of(), config_of(layout)
    everyone = frozenset(FAMILY)
    cuts = stage_layers(recipe, config.tsjt.partition, config.tsjt.pipeline)
    memory = predict_memory(recipe, config, everyone, "cpu")
    traffic = predict_traffic(recipe, config, everyone)
    for rank, real in enumerate(run_ranks(real_sizes, layout)):
        stage = layout.coordinates(rank).pipeline
        assert real["parameters"] == rank_parameters(recipe, cuts[stage], layout.tensor)
        assert real["weights"] == memory[stage].weights
        assert real["optimizer"] == memory[stage].optimizer
        if layout.pipeline > 1:
            assert real["parts"] == [cut.start for cut in cuts] + [cuts[-1].stop]
            # What a stage receives its neighbour sent, as often as there are micro-batches.
            if stage:
                assert config.accumulation * real["received"] == traffic[stage - 1].pipeline
        if layout.tensor > 1:
            # A ring of two sends as much as is reduced.
            assert real["reduced"] == pytest.approx(traffic[stage].tensor, rel=0.01)


def test_memory_follows_zero_and_precision() -> None:
    recipe, everyone = recipe_of(), frozenset(FAMILY)

    def memory(data: int, stage: int, **raw: Any) -> Any:
        raw["zero_optimization"] = {"stage": stage, "reduce_bucket_size": 1000}
        return predict_memory(recipe, config_of(Layout(1, 1, data), **raw), everyone, "cpu")[0]

    plain, cut, sharded = memory(2, 1), memory(2, 2), memory(2, 3)
    assert cut.gradients == plain.gradients // 2
    assert cut.weights == plain.weights
    assert sharded.weights == plain.weights * 3 // 2  # Small enough to stay gathered.
    assert memory(1, 1).optimizer == 2 * plain.optimizer
    low = memory(1, 1, bf16={"enabled": True}, data_types={"grad_accum_dtype": "fp32"})
    whole = memory(1, 1)
    assert low.weights * 2 == whole.weights
    assert low.optimizer == whole.optimizer
    assert low.gradients == whole.gradients * 3 // 2
    # With one micro-batch, plain gradients come as activations go; accumulators are always there.
    assert memory(4, 1).gradients == 0
    raw = {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    assert memory(4, 1, **raw).gradients == whole.gradients


def test_a_pipeline_keeps_fewer_micro_batches_towards_its_end() -> None:
    recipe, everyone = recipe_of(), frozenset(FAMILY)
    config = config_of(Layout(pipeline=2))
    first, last = predict_memory(recipe, config, everyone, "cpu")
    longer = predict_memory(recipe, config_of(Layout(pipeline=4)), everyone, "cpu")
    assert config.accumulation >= 4
    assert config.micro_batch_rows == MICRO_BATCH_ROWS
    assert first.activations > last.activations
    assert len(longer) == 4
