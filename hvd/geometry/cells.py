"""How many cells a range has: no numpy here, because configurations ask."""

import math

_WHOLE = 1e-6  # how far from a whole number a cell count may be, by rounding of the decimal inputs


def whole_cells(minimum: float, maximum: float, cell: float) -> int:
    """Cells of length `cell` in [minimum, maximum).

    Raises:
        ValueError: no whole, positive number.
    """
    count = (maximum - minimum) / cell if cell > 0 else math.nan
    if not (math.isfinite(count) and round(count) >= 1 and abs(count - round(count)) < _WHOLE * max(1.0, count)):
        raise ValueError(f"[{minimum}, {maximum}) by {cell} is {count} cells: not a whole, positive number")
    return round(count)
