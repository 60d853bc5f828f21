"""A step's time is that of DeepSpeed's own schedule, played through."""

from pathlib import Path
from typing import Any

import pytest
from deepspeed.runtime.pipe.schedule import BackwardPass, ForwardPass, TrainSchedule

from tests.planning.test_prediction import config_of
from tsjt_ds.errors import UserError
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.planning.cluster import Cluster, load_cluster
from tsjt_ds.planning.speed import bubble_share, predict_time
from tsjt_ds.planning.traffic import Traffic

CLUSTERS = Path(__file__).parents[2] / "clusters"


def played(stage_seconds: list[float], micro_batches: int) -> float:
    """The time of DeepSpeed's 1F1B schedule: a forward pass is a third of each stage's seconds."""
    stages = len(stage_seconds)
    orders: list[list[tuple[str, int]]] = []
    for stage in range(stages):
        schedule = TrainSchedule(micro_batches, stages, stage)
        counts = {"f": 0, "b": 0}
        orders.append([])
        for command in (command for step in schedule for command in step):
            kind = {ForwardPass: "f", BackwardPass: "b"}.get(type(command))
            if kind is not None:
                orders[-1].append((kind, counts[kind]))
                counts[kind] += 1
    done: dict[tuple[str, int, int], float] = {}
    clocks = [0.0] * stages
    while any(orders):
        for stage, order in enumerate(orders):
            while order:
                kind, number = order[0]
                neighbour = stage - 1 if kind == "f" else stage + 1
                needed = (kind, neighbour, number)
                if 0 <= neighbour < stages and needed not in done:
                    break
                start = max(clocks[stage], done.get(needed, 0.0))
                clocks[stage] = start + stage_seconds[stage] * (1 / 3 if kind == "f" else 2 / 3)
                done[kind, stage, number] = clocks[stage]
                order.pop(0)
    return max(clocks)


@pytest.mark.parametrize("micro_batches", [1, 2, 4, 16])
@pytest.mark.parametrize(
    "seconds", [[1.0], [1.0, 1.0], [2.0] * 4, [1.0, 1.5], [1.0, 2.0, 1.5, 1.2]]
)
def test_the_bubble_is_that_of_deepspeeds_schedule(
    seconds: list[float], micro_batches: int
) -> None:
    even, real = bubble_share(seconds, micro_batches)
    predicted = micro_batches * sum(seconds) / len(seconds) / (1 - real)
    exact = played(seconds, micro_batches)
    if len(set(seconds)) == 1:
        assert predicted == pytest.approx(exact)
        assert even == pytest.approx(real)
    # With unequal stages a little of the slowest one's waiting is counted twice.
    assert exact <= predicted + 1e-9 <= 1.12 * exact


def cluster_of(**values: Any) -> Cluster:
    return Cluster.model_validate(
        {
            "name": "made up",
            "devices_per_node": 2,
            "peak_tflops": {"fp32": 1, "bf16": 1, "fp16": 1},
            "achievable_share": 0.5,
            "memory_gb": 1,
            "intra_node_gb_per_second": 10,
            "inter_node_gb_per_second": 1,
            **values,
        }
    )


def test_time_is_arithmetic_and_what_is_sent() -> None:
    config = config_of(Layout(data=2))
    traffic = [Traffic(gradients=2e9, weights=1e9, pipeline=0.0, tensor=0.0, tied=0.0)]
    time = predict_time(config, cluster_of(), [5e11], [5], traffic)
    passes = 5e11 * config.micro_batch_rows * config.accumulation / 5e11
    assert time.seconds == pytest.approx(passes + 3e9 / 10e9)
    far = predict_time(config, cluster_of(devices_per_node=1), [5e11], [5], traffic)
    assert far.seconds == pytest.approx(passes + 3e9 / 1e9)
    assert far.limit.startswith("compute, then data-parallel communication")
    slow = cluster_of(layer_launch_us=3e6)
    launched = predict_time(config, slow, [5e11], [5], traffic)
    assert launched.compute + launched.launches == pytest.approx(config.accumulation * 15.0)
    assert launched.limit.startswith("kernel launches")


def test_a_pipelines_transfers_slow_its_slowest_stage() -> None:
    config = config_of(Layout(pipeline=2))
    nothing = Traffic(0.0, 0.0, 0.0, 0.0, 0.0)
    sent = Traffic(0.0, 0.0, 1e9 * config.accumulation, 0.0, 0.0)
    cluster = cluster_of(devices_per_node=1)
    alone = predict_time(config, cluster, [1e11, 2e11], [2, 3], [nothing, nothing])
    both = predict_time(config, cluster, [1e11, 2e11], [2, 3], [sent, sent])
    whole = config.accumulation + 1
    assert both.seconds - alone.seconds == pytest.approx(whole * 1.0)


@pytest.mark.parametrize("name", ["h100.yaml", "cpu.yaml"])
def test_shipped_descriptions_are_sound(name: str) -> None:
    assert load_cluster(CLUSTERS / name).usable_bytes > 0


def test_mistakes_in_a_description(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    with pytest.raises(UserError, match="No such file"):
        load_cluster(path)
    path.write_text("- one\n")
    with pytest.raises(UserError, match="holds no mapping"):
        load_cluster(path)
    path.write_text((CLUSTERS / "h100.yaml").read_text().replace("memory_gb", "memory"))
    with pytest.raises(UserError, match=r"memory: unknown key .did you mean 'memory_gb'"):
        load_cluster(path)
