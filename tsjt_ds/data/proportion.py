"""Whether a recipe's rows have room on the two sides in the proportion of its data."""

import math

from tsjt_ds.config.data import SEGMENT_TAGS, DataConfig
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.sampling import corpus_sampler
from tsjt_ds.data.token_counts import expected_tokens

_NEGLIGIBLE_SHARE = 0.01


def side_tokens(prepared: PreparedData, config: DataConfig) -> tuple[float, float]:
    """Source and target tokens of an epoch, tags included, once its sampling is settled."""
    sampler = corpus_sampler(prepared, config, seed=0)
    lengths = [prepared.lengths(direction) for direction in config.trained_directions]
    source, target = expected_tokens(sampler, lengths, sampler.changing_epochs).sum(axis=0)
    return float(source), float(target)


def describe_rows(prepared: PreparedData, config: DataConfig) -> str:
    """The padding that the rows' proportion forces, and the row length that avoids it."""
    source, target = side_tokens(prepared, config)
    room = {"source": config.row_source_tokens, "target": config.row_target_tokens}
    rows = max(source / room["source"], target / room["target"])
    padding = 1.0 - (source + target) / (rows * sum(room.values()))
    text = (
        f"rows of {room['source']} source and {room['target']} target tokens: {padding:.1%} "
        f"padding is the least possible, with {source / target:.2f} source tokens a target token"
    )
    if padding < _NEGLIGIBLE_SHARE:
        return text
    return f"{text} ({_remedy(source / target, config)} would avoid it)"


def _remedy(ratio: float, config: DataConfig) -> str:
    """Shorten the side with room to spare; where segments forbid that, lengthen the other."""
    shortest = config.max_segment_tokens + SEGMENT_TAGS
    source, target = config.row_source_tokens, config.row_target_tokens
    if source > target * ratio:
        fitting = math.ceil(target * ratio)
        if fitting >= shortest:
            return f"data.row_source_tokens: {fitting}"
        return f"data.row_target_tokens: {round(source / ratio)}"
    fitting = math.ceil(source / ratio)
    if fitting >= shortest:
        return f"data.row_target_tokens: {fitting}"
    return f"data.row_source_tokens: {round(target * ratio)}"
