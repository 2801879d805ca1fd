"""The colours of labels, the same wherever labels are shown or written."""

from __future__ import annotations

# Matplotlib's tab20 comes in pairs of one hue: its ten strong colours, then the ten pale ones.
_PALETTE = (
    *("1f77b4", "ff7f0e", "2ca02c", "d62728", "9467bd", "8c564b", "e377c2", "7f7f7f", "bcbd22", "17becf"),
    *("aec7e8", "ffbb78", "98df8a", "ff9896", "c5b0d5", "c49c94", "f7b6d2", "c7c7c7", "dbdb8d", "9edae5"),
)


def color_of(value: int) -> tuple[float, float, float]:
    """Red, green and blue from 0 to 1 of a label value; they repeat after 20.

    Args:
        value: at least 1.
    """
    hexadecimal = _PALETTE[(value - 1) % len(_PALETTE)]
    red, green, blue = (int(hexadecimal[start : start + 2], 16) / 255 for start in (0, 2, 4))
    return red, green, blue
