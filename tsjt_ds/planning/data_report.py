"""What a run reads of its data, as tables. Imports no torch."""

from collections.abc import Iterator

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.planning.coverage import Coverage, EpochCoverage
from tsjt_ds.planning.stage_table import Line
from tsjt_ds.text_table import align


def data_blocks(
    recipe: Recipe, coverage: Coverage, lines: list[Line], config: DeepSpeedConfig | None
) -> list[str]:
    """Rows, tokens and epochs; and what directions and corpora have of them."""
    ends = [(line, _epochs(line, coverage, config)) for line in lines] if config else []
    return [_rows(recipe, coverage, ends, config), _directions(coverage, ends)]


def unprepared_blocks(recipe: Recipe) -> list[str]:
    """The directions' shares of examples, where they do not depend on the data's sizes."""
    weights = recipe.data.direction_weights
    rows = [
        [direction, f"{weights[direction] / sum(weights.values()):.1%}"]
        for direction in recipe.data.trained_directions
        if weights
    ]
    return [align([["direction", "examples"], *rows])] if rows else []


def _epochs(line: Line, coverage: Coverage, config: DeepSpeedConfig) -> float:
    return coverage.epochs(line.schedule.steps * config.rows_per_step)


def _measured(coverage: Coverage) -> list[tuple[str, EpochCoverage]]:
    """The epochs that are shown, with a name where they are two."""
    if not coverage.sampler.changing_epochs:
        return [("", coverage.settled)]
    number = coverage.sampler.changing_epochs + 1
    return [(" in epoch 1", coverage.first), (f" from epoch {number}", coverage.settled)]


def _rows(
    recipe: Recipe,
    coverage: Coverage,
    ends: list[tuple[Line, float]],
    config: DeepSpeedConfig | None,
) -> str:
    rows = [
        ["data", str(recipe.prepared_path)],
        ["pairs of an epoch", f"{coverage.sampler.examples_per_epoch:,}"],
    ]
    for when, epoch in _measured(coverage):
        rows += [
            [f"rows of an epoch{when}", f"{epoch.rows:,.0f}"],
            [f"padding{when}", f"{epoch.packed.padding_share:.1%}"],
            [f"target tokens of a row{when}", f"{epoch.target_tokens_per_row:.1f}"],
        ]
        if config is not None:
            tokens = config.rows_per_step * epoch.target_tokens_per_row
            rows.append([f"target tokens of a step{when}", f"{tokens:,.0f}"])
    rows += [[f"epochs at the end of {line.name}", f"{epochs:.2f}"] for line, epochs in ends]
    return align(rows)


def _directions(coverage: Coverage, ends: list[tuple[Line, float]]) -> str:
    """A row for each direction, and one for each of its corpora where they are drawn unequally."""
    measured = _measured(coverage)
    drawn = [(f"times in {line.name}", coverage.drawn(epochs)) for line, epochs in ends]
    if not ends:
        drawn = [(f"times an epoch{when}", epoch.examples) for when, epoch in measured]
    shares = [(f"examples{when}", epoch.examples) for when, epoch in measured]
    shares += [(f"target tokens{when}", epoch.tokens[:, 1]) for when, epoch in measured]
    corpora = coverage.sampler.corpora
    rows = [["direction", "corpora", "pairs", *(name for name, _ in shares + drawn)]]
    for name, members in _members(coverage):
        pairs = sum(corpora[number].pairs for number in members)
        keys = sum(len(corpora[number].keys) or 1 for number in members)
        cells = [f"{values[members].sum() / values.sum():.1%}" for _, values in shares]
        cells += [f"{values[members].sum() / max(1, pairs):.2f}" for _, values in drawn]
        rows.append([name, str(keys), f"{pairs:,}", *cells])
    return align(rows)


def _members(coverage: Coverage) -> Iterator[tuple[str, list[int]]]:
    """What rows are of: a name, and the numbers of its corpora."""
    corpora = coverage.sampler.corpora
    for index, direction in enumerate(coverage.directions):
        members = [n for n, corpus in enumerate(corpora) if corpus.direction == index]
        yield direction, members
        if len(members) > 1:
            for number in members:
                yield f"  {', '.join(corpora[number].keys)}", [number]
