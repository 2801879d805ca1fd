"""A window of a slice: the part around an object that the network looks at, so that small things fill its square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels of a slice: rows from ``top``, columns from ``left``."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The part of an (H, W) or (H, W, C) image inside the window, a view."""
        return image[self.rows, self.columns]

    @property
    def rows(self) -> slice:
        """Rows of the slice."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Columns of the slice."""
        return slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Zoom:
    """How a family chooses the window for an object.

    Attributes:
        margin: context on every side of the object's box, as a share of the box's longer side.
        smallest: sides below this many pixels of the slice are not asked for: nothing is there to be magnified.
        whole: a window with a longer side above this share of the slice's is given up: the whole slice, whose
            embedding serves every object, shows as much.
    """

    margin: float = 0.5
    smallest: int = 32
    whole: float = 0.7

    def window(
        self,
        box: np.ndarray,
        height: int,
        width: int,
        pixel_spacing: tuple[float, float] = (1.0, 1.0),
    ) -> Window | None:
        """The window around a box, square in mm and moved into the slice; None means the whole slice.

        Args:
            box: (4,) pixels (x0, y0, x1, y1), both corners inclusive.
            height, width: of the slice.
            pixel_spacing: (dy, dx) in mm.
        """
        pixel = np.array([pixel_spacing[1], pixel_spacing[0]], dtype=float)  # (x, y), as boxes are
        low, high = np.split(np.asarray(box, dtype=float), 2)
        side = max(((high - low + 1) * pixel).max() * (1 + 2 * self.margin), self.smallest * pixel.max())
        size = np.array([width, height])
        if side >= self.whole * (size * pixel).max():
            return None
        extent = np.minimum(np.maximum(np.round(side / pixel), 1), size).astype(int)
        corner = np.clip(np.round((low + high + 1 - extent) / 2), 0, size - extent).astype(int)
        return Window(int(corner[1]), int(corner[0]), int(extent[1]), int(extent[0]))
