"""Which directions have a mean together."""

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.recipe import Recipe


def direction_groups(recipe: Recipe) -> dict[str, list[str]]:
    """Directions by the name of their mean.

    All trained ones; where it makes a difference, those out of and into the language that all pairs
    share, and of these the high- and the low-resource ones (``evaluation.low_resource``); and those
    that were not trained.
    """
    trained = recipe.data.trained_directions
    groups = {"mean": trained}
    sides = {f"mean {name}": part for name, part in _sides(recipe).items()}
    if len(sides) > 1:
        groups |= sides
    low = set(recipe.evaluation.low_resource)
    if low:
        for name, part in (sides or groups).copy().items():
            is_low = {direction: bool(low & set(languages_of(direction))) for direction in part}
            groups[f"{name}, high-resource"] = [d for d in part if not is_low[d]]
            groups[f"{name}, low-resource"] = [d for d in part if is_low[d]]
    groups["mean, zero-shot"] = recipe.evaluation.zero_shot
    return {name: part for name, part in groups.items() if part}


def _sides(recipe: Recipe) -> dict[str, list[str]]:
    """The trained directions out of the shared language, and into it."""
    trained = recipe.data.trained_directions
    shared = set.intersection(*(set(languages_of(direction)) for direction in trained))
    if len(shared) != 1:
        return {}
    [code] = shared
    sides = {
        f"{code}→X": [d for d in trained if languages_of(d)[0] == code],
        f"X→{code}": [d for d in trained if languages_of(d)[1] == code],
    }
    return {name: part for name, part in sides.items() if part}
