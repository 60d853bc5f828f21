"""Ways of making batches of sentence pairs, beside the plan's packing: how much of each is padding?

Every function takes the pairs' tokens on either side, tags included, and tells source and target
positions that its batches have in all.
"""

import numpy as np

Lengths = np.ndarray
"""int64 [pairs, 2]: source and target tokens."""


def bucketed(lengths: Lengths, limit: int, pool_pairs: int, seed: int) -> tuple[int, int]:
    """Batches of at most ``limit`` padded tokens on their longer side, sorted by length.

    All pairs sorted at once (a pool of all pairs) is what fairseq does with ``--max-tokens``; pools
    of some batches are Marian's ``--maxi-batch``.

    Returns:
        Batches and padded positions.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    batches = positions = 0
    for start in range(0, len(order), pool_pairs):
        pool = lengths[order[start : start + pool_pairs]]
        pool = pool[np.lexsort((pool[:, 0], pool[:, 1]))]
        size, longest = 0, (0, 0)
        for source, target in pool.tolist():
            grown = (max(longest[0], source), max(longest[1], target))
            if size and max(grown) * (size + 1) > limit:
                batches, positions = batches + 1, positions + size * sum(longest)
                size, grown = 0, (source, target)
            size, longest = size + 1, grown
        batches, positions = batches + 1, positions + size * sum(longest)
    return batches, positions


def first_fit(lengths: Lengths, row: tuple[int, int]) -> tuple[int, int]:
    """Rows of fixed length, each pair in the first that has room on both sides for it.

    Returns:
        Rows and their positions.
    """
    shortest = lengths.min(axis=0)
    free = np.zeros((1024, 2), np.int64)
    number = closed = 0
    for pair in lengths:
        fits = (free[:number, 0] >= pair[0]) & (free[:number, 1] >= pair[1])
        place = int(fits.argmax()) if number else 0
        if not number or not fits[place]:
            if number == len(free):
                is_open = (free >= shortest).all(axis=1)
                closed += number - int(is_open.sum())
                number = int(is_open.sum())
                free = np.concatenate([free[is_open], np.zeros((max(1024, number), 2), np.int64)])
            place, free[number] = number, row
            number += 1
        free[place] -= pair
    return closed + number, (closed + number) * sum(row)
