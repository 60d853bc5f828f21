"""Predicted memory, pipeline, traffic and speed as text. Imports no torch."""

from collections.abc import Iterator

from tsjt_ds.planning.prediction import Prediction
from tsjt_ds.planning.speed import StepTime
from tsjt_ds.planning.units import si, size
from tsjt_ds.text_table import align

PARTS = ("weights", "optimizer", "gradients", "activations", "workspace", "buckets")
TRAFFIC = ("gradients", "weights", "pipeline", "tensor", "tied")


def prediction_blocks(prediction: Prediction, row_tokens: float) -> Iterator[str]:
    """One block a question, everything in it predicted.

    Args:
        prediction: what is shown.
        row_tokens: target tokens of a row, padding excluded where the data is known.
    """
    yield _memory(prediction)
    yield _pipeline(prediction)
    yield _traffic(prediction)
    if prediction.cluster is not None:
        yield _speed(prediction, row_tokens)


def _stages(prediction: Prediction) -> list[str]:
    return [f"stage {number}" for number in range(len(prediction.layers))]


def _memory(prediction: Prediction) -> str:
    memory = prediction.memory
    rows = [["predicted memory of a rank", *_stages(prediction)]]
    rows += [[part, *(size(getattr(rank, part)) for rank in memory)] for part in PARTS]
    rows.append(["peak of the passes", *(size(rank.passes_peak) for rank in memory)])
    rows.append(["peak of the optimizer's step", *(size(rank.step_peak) for rank in memory)])
    text = align(rows)
    cluster = prediction.cluster
    if cluster is None:
        return f"{text}\nactivations as a CPU keeps them (--cluster FILE: as its devices do)"
    usable = f"{size(cluster.usable_bytes)} of {size(cluster.memory_gb * 1e9)} usable"
    return f"{text}\n{'fits' if prediction.fits else 'does NOT fit'}: {usable} on a device"


def _pipeline(prediction: Prediction) -> str:
    flops = prediction.stage_flops(prediction.load)
    rows_per_step = prediction.config.rows_per_step
    layers = [f"{cut[0]} to {cut[-1]}" for cut in prediction.layers]
    table = [
        ["predicted compute", *_stages(prediction)],
        ["pipeline layers", *layers],
        ["FLOPs of a step", *(si(rows_per_step * each) for each in flops)],
        ["share", *(f"{each / sum(flops):.1%}" for each in flops)],
    ]
    text = f"{align(table)}\nin {prediction.load.name}, the most expensive schedule stage"
    if len(flops) == 1:
        return text
    even, real = prediction.bubbles
    return (
        f"{text}\nbubble {even:.1%} with equal stages; with these, a stage idles {real:.1%} of a "
        "step on average"
    )


def _traffic(prediction: Prediction) -> str:
    traffic = prediction.traffic
    rows = [["predicted bytes sent by a rank in a step", *_stages(prediction)]]
    names = dict(zip(TRAFFIC, _TRAFFIC_NAMES, strict=True))
    for key in TRAFFIC:
        if any(getattr(each, key) for each in traffic):
            rows.append([names[key], *(size(getattr(each, key)) for each in traffic)])
    rows.append(["total", *(size(each.total) for each in traffic)])
    return align(rows)


_TRAFFIC_NAMES = (
    "gradients to data-parallel ranks",
    "ZeRO's weights to data-parallel ranks",
    "hidden states between pipeline stages",
    "tensor-parallel all-reduces",
    "tied embedding's gradient",
)


def _speed(prediction: Prediction, row_tokens: float) -> str:
    assert prediction.cluster is not None
    rows = [["predicted speed", "seconds a step", "target tokens/s", "of the peak", "limited by"]]
    for load in prediction.loads:
        time = prediction.step_time(load)
        assert time is not None
        tokens = prediction.config.rows_per_step * row_tokens / time.seconds
        share = time.compute / time.seconds * prediction.cluster.achievable_share
        rows.append(
            [load.name, f"{time.seconds:.4g}", f"{tokens:,.0f}", f"{share:.1%}", time.limit]
        )
    time = prediction.step_time(prediction.load)
    assert time is not None
    return f"{align(rows)}\non {prediction.cluster.name}; {_breakdown(time)}"


def _breakdown(time: StepTime) -> str:
    parts = {"passes": time.compute, **time.losses()}
    shares = [f"{name} {part / time.seconds:.1%}" for name, part in parts.items() if part]
    return "the most expensive stage's step: " + ", ".join(shares)
