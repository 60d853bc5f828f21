"""Made-up bitext: the target is the source in capitals."""

import random
from pathlib import Path

import numpy as np

WORDS = [consonant + vowel for consonant in "bdfkl" for vowel in "aeiou"]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(min(30, 1 + int(rng.expovariate(0.2)))))


def write_pairs(path: Path, count: int, seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    pairs = [(text := sentence(rng), text.upper()) for _ in range(count)]
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    return pairs


def correlated_lengths(
    count: int, longest: int, ratio: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log-normal source and target lengths, correlated as translations are; means in ``ratio``."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(2.3, 0.8, count)
    source = size * rng.lognormal(0, 0.2, count) * ratio
    target = size * rng.lognormal(0, 0.2, count)
    fits = (source < longest) & (target < longest)
    return source[fits].astype(np.int64) + 3, target[fits].astype(np.int64) + 3
