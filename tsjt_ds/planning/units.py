"""Numbers with a prefix. Imports no torch."""

PREFIXES = ["", "k", "M", "G", "T", "P", "E", "Z"]


def si(value: float) -> str:
    """Four digits and a prefix: 1200000.0 → ``1.200 M``."""
    power = 0
    while value >= 999.95 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:#.4g} {PREFIXES[power]}".rstrip()


def size(value: float) -> str:
    """Bytes, in powers of 1000: 1200000 → ``1.20 MB``."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {PREFIXES[power]}B"
