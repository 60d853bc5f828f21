import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tsjt_ds.config.deepspeed import load_deepspeed_config
from tsjt_ds.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import arms
import peer_m2m100
import throughput

SPEC = peer_m2m100.Spec(
    prepared="",
    directions=["en-de"],
    d_model=32,
    attention_heads=2,
    ffn_dim=64,
    encoder_layers=3,
    decoder_layers=2,
    micro_batch_tokens=64,
    accumulation=1,
    warmup_steps=0,
    steps=1,
    precision="fp32",
    device="cpu",
    attention="eager",
)
VOCAB = 64


def batch(rows: int, source: int, target: int) -> peer_m2m100.Batch:
    ids = torch.Generator().manual_seed(1)
    return peer_m2m100.Batch(
        torch.randint(4, VOCAB, (rows, source), generator=ids),
        torch.randint(4, VOCAB, (rows, target), generator=ids),
    )


def test_flops_are_those_that_torch_counts() -> None:
    model = peer_m2m100.build_model(SPEC, VOCAB).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    one = batch(3, 12, 8)
    with FlopCounterMode(display=False) as counter:
        peer_m2m100.train_step(SPEC, model, optimizer, [one])
    assert peer_m2m100.batch_flops(SPEC, VOCAB, one) == pytest.approx(counter.get_total_flops())


def test_the_peer_learns() -> None:
    torch.manual_seed(1)
    model = peer_m2m100.build_model(SPEC, VOCAB).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    one = batch(2, 5, 5)
    losses = [float(peer_m2m100.train_step(SPEC, model, optimizer, [one])) for _ in range(30)]
    assert losses[-1] < losses[0] - 1.0


def test_buckets_hold_every_pair_once_within_the_limit() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(3, 60, (5000, 2))
    batches = list(peer_m2m100.bucketed(lengths, 128, random))
    assert sorted(index for chosen in batches for index in chosen) == list(range(5000))
    assert all(lengths[chosen].max() * len(chosen) <= 128 for chosen in batches)
    target = [lengths[chosen, 1] for chosen in batches]
    padding = 1 - sum(t.sum() for t in target) / sum(t.max() * len(t) for t in target)
    assert padding < 0.05


def test_padding_is_counted_on_both_sides() -> None:
    one = batch(2, 4, 4)
    one.source_BS[0, 2:] = peer_m2m100.PAD_ID
    assert peer_m2m100.padding_share([one]) == 2 / 16


def result(speed: float, flops: float) -> dict[str, Any]:
    return {
        "target_tokens_per_second": speed,
        "padding_share": 0.01,
        "flops_per_second": flops,
        "peak_memory_bytes": 2**30,
    }


HIGH, BOTH = ("high",), ("low", "high")
ONE = (1, 1, 1)
MEASURED = [
    (arms.Arm(HIGH, "fp32"), result(100.0, 1e12)),
    (arms.Arm(("low",), "fp32"), result(300.0, 1e12)),
    (arms.Arm(HIGH, "fp32", ONE), result(150.0, 2e12)),
    (arms.Arm(BOTH, "fp32", ONE), result(90.0, 1e12)),
]


def test_two_capacities_are_compared_with_training_them_apart() -> None:
    assert throughput.ratio_to_peer(MEASURED[2][0], MEASURED) == pytest.approx(1.5)
    # 1/100 + 1/300 seconds a token apart, 1/90 together.
    assert throughput.ratio_to_peer(MEASURED[3][0], MEASURED) == pytest.approx(1.2)
    assert throughput.joint_cost(MEASURED[3][0], MEASURED) == pytest.approx(2.0)
    assert throughput.joint_cost(MEASURED[2][0], MEASURED) is None


def setting(tmp_path: Path) -> arms.Setting:
    sizes = throughput.SIZES["cpu"]
    return arms.Setting(
        work=tmp_path, data=tmp_path, pairs=["en-de"], device="cpu", threads=2, **sizes
    )


def test_table_and_result_files(tmp_path: Path) -> None:
    table = throughput.markdown(setting(tmp_path), MEASURED, peak=10.0)
    assert "| ours (1,1,1) | low + high | fp32 | 90 | 1.20 | 2.00 | 1.0% | 1,024 | 10.0% |" in table
    throughput.write_results(tmp_path / "results", "A CPU", setting(tmp_path), MEASURED, table)
    (path,) = (tmp_path / "results").glob("*-a-cpu.json")
    assert len(json.loads(path.read_text())["arms"]) == len(MEASURED)
    assert table in path.with_suffix(".md").read_text()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", [(1, 1, 1), (2, 1, 1), (1, 1, 2), (2, 2, 2)])
def test_our_arms_have_valid_configurations(
    tmp_path: Path, device: str, precision: str, layout: tuple[int, int, int]
) -> None:
    sizes = throughput.SIZES[device]
    chosen = dataclasses.replace(setting(tmp_path), **sizes)
    arm = arms.Arm(BOTH, precision, layout)
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(arms.deepspeed_file(chosen, arm)))
    config = load_deepspeed_config(path, world_size=arm.processes)
    assert config.precision == precision
    assert config.rows_per_step == sizes["rows_per_step"]
    assert arms.recipe_of(chosen, BOTH).schedule.steps == sizes["warmup_steps"] + sizes["steps"]
    peer = peer_m2m100.Spec(**arms.peer_specification(chosen, arms.Arm(HIGH, precision)))
    tokens = peer.micro_batch_tokens * peer.accumulation
    assert tokens == sizes["rows_per_step"] * sizes["row_target_tokens"]


def test_missing_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main(["--data", str(tmp_path), "--work", str(tmp_path / "work")]) == 1
    assert "holds no train.en-XX.tsv.gz" in capsys.readouterr().err


def test_a_failed_arm_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"M2M-100 loop fp32: failed: .*holds no prepared data"):
        arms.run_arm(setting(tmp_path), arms.Arm(HIGH, "fp32"))
