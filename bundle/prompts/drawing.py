"""Lines and areas as pixels: how a stroke and an outline are drawn, on a slice and through a volume."""

from __future__ import annotations

import numpy as np

from bundle.transforms.frames import nearest_index

_STEP = 0.5  # of a pixel between two samples of a line: none is jumped over


def along(path: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Positions on a line.

    Args:
        path: (N, D) positions that it passes through in straight pieces, at least one.
        places: (M,) shares of its length, 0 its first position and 1 its last.

    Returns:
        (M, D) float.
    """
    path = np.asarray(path, dtype=float)
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.asarray(places, dtype=float) * lengths[-1]
    return np.stack([np.interp(at, lengths, coordinate) for coordinate in path.T], axis=1)


def evenly_along(path: np.ndarray, count: int, *, spacing: float = 0.0) -> np.ndarray:
    """(M, D) positions spread evenly along a line, each in the middle of its share.

    Args:
        path: (N, D).
        count: M, at most: ...
        spacing: ... fewer where they would lie nearer to each other than this, at least one.
    """
    path = np.asarray(path, dtype=float)
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    if length <= spacing:
        count = 1
    elif spacing:
        count = min(count, int(length / spacing))
    return along(path, (np.arange(count) + 0.5) / count)


def densely_along(path: np.ndarray) -> np.ndarray:
    """(M, D) positions along a line, at most half a pixel (or voxel) between two of them, all of its own among them.

    So what a line through a volume passes on a slice is also what its piece on that slice passes.
    """
    path = np.asarray(path, dtype=float)
    ends = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    places = np.linspace(0, 1, 1 + int(np.ceil(ends[-1] / _STEP)))
    order = np.argsort(np.concatenate([places * ends[-1], ends]), kind="stable")
    return np.concatenate([along(path, places), path])[order]


def draw_line(path: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) bool: the pixels that an (N, 2) line of positions (x, y) passes; what lies outside is left out."""
    drawn = np.zeros((height, width), dtype=bool)
    x, y = nearest_index(densely_along(path), (width, height)).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    drawn[y[inside], x[inside]] = True
    return drawn


def draw_area(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) bool: the pixels inside of an (N, 2) polygon of positions (x, y), with those that its line passes."""
    outline = np.asarray(outline, dtype=float)
    drawn = draw_line(np.concatenate([outline, outline[:1]]), height, width)
    from skimage.draw import polygon  # not on a machine that only trains

    drawn[polygon(outline[:, 1], outline[:, 0], (height, width))] = True
    return drawn
