"""Tables as text."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]], sides: str = "<>") -> str:
    """Cells in columns of equal width, two spaces apart.

    Args:
        rows: cells [rows][columns].
        sides: ``<`` or ``>`` for each column: to which side its cells stand; the last is that of
            all further columns.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    formats = [
        f"{sides[min(column, len(sides) - 1)]}{width}" for column, width in enumerate(widths)
    ]
    return "\n".join("  ".join(map(format, row, formats)).rstrip() for row in rows)
