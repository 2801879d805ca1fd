"""Slices as a radiologist expects them: upright, with orientation letters, a slice number, contours and the prompt.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; contours leave the edge visible
that a filled area would hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from bundle.data.volume import Volume
from bundle.files import write_atomically
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame, nearest_index

OBJECT_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
TRUTH, ANSWER, PROMPT = "#56B4E9", "#E69F00", "#F0E442"
LINE_STYLES = ("solid", "dashed", "dotted")
SOFT_TISSUE_HU = (-160.0, 240.0)  # level 40, width 400: the usual abdominal window

# Left, right, top and bottom of an upright slice (`SliceFrame`).
_LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
_OUTLINE = [withStroke(linewidth=2.5, foreground="black")]


def colour_of(position: int) -> tuple[str, str]:
    """Colour and line style of an object; styles change where the colours begin again.

    Args:
        position: from 0.
    """
    colour, style = position % len(OBJECT_COLOURS), position // len(OBJECT_COLOURS) % len(LINE_STYLES)
    return OBJECT_COLOURS[colour], LINE_STYLES[style]


def panes(count: int, *, height: float = 4.6) -> tuple[Figure, list[Axes]]:
    """A black figure with panes of one size beside each other.

    Args:
        count: how many.
        height: of a pane, which is square, in inches.
    """
    figure = Figure(figsize=(height * count, height + 0.45), facecolor="black")
    FigureCanvasAgg(figure)  # no window: this runs on servers
    below = 0.45 / (height + 0.45)
    axes = [figure.add_axes((n / count + 0.002, below, 1 / count - 0.004, 1 - below)) for n in range(count)]
    return figure, axes


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG; it appears under its name when it is complete."""
    return write_atomically(path, lambda partial: figure.savefig(partial, dpi=100, facecolor="black", format="png"))


def show_slice(axes: Axes, image: Volume, frame: SliceFrame, index: int, *, title: str = "") -> None:
    """Draw a slice in grey or colour with its title and orientation letters inside.

    Args:
        axes: a pane.
        image: the volume.
        frame: of the plane.
        index: of the slice.
        title: what is shown, above plane and slice number.
    """
    dy, dx = frame.pixel_spacing(image.spacing)
    low, high = window_of(image)
    axes.imshow(
        frame.extract(image.array, index), cmap="gray", vmin=low, vmax=high, aspect=dy / dx, interpolation="bilinear"
    )
    axes.set_axis_off()
    place = f"{frame.plane} slice {index} of 0 to {frame.depth - 1}"
    lines = "\n".join([*([title] if title else []), place])
    _write(axes, (0.02, 0.98), lines, size=10, va="top")
    if not image.placed:
        return
    for letter, at in zip(_LETTERS[frame.plane], ((0.02, 0.5), (0.98, 0.5), (0.5, 0.87), (0.5, 0.03)), strict=True):
        ha = "left" if at[0] < 0.5 else "right" if at[0] > 0.5 else "center"
        _write(axes, at, letter, size=12, va="center", ha=ha)


def _write(axes: Axes, at: tuple[float, float], text: str, **look: Any) -> None:
    """Write at a place of the pane, from its lower left corner; the picture inside may be smaller."""
    pane = axes.get_position(original=True)
    x, y = pane.x0 + at[0] * pane.width, pane.y0 + at[1] * pane.height
    axes.text(x, y, text, transform=axes.figure.transFigure, color="white", path_effects=_OUTLINE, **look)


def draw_contour(axes: Axes, picture: np.ndarray, colour: str, style: str = "solid") -> None:
    """Draw the outline of an (H, W) bool mask."""
    if picture.any() and not picture.all():
        axes.contour(picture.astype(float), levels=[0.5], colors=[colour], linewidths=1.4, linestyles=[style])


def draw_prompt(
    axes: Axes, frame: SliceFrame, index: int, prompts: ObjectPrompts, *, width: float = 1.2, colour: str = PROMPT
) -> None:
    """Draw the box where it crosses the slice, and the points that lie on it: + on the object, x off it.

    Args:
        axes, frame, index: as for `show_slice`.
        prompts: of one object, in voxel indices.
        width, colour: of the box's lines.
    """
    if prompts.box is not None:
        corners, slices = frame.to_pixels(np.asarray(prompts.box, dtype=float))
        if slices.min() <= index <= slices.max():
            (x0, y0), (x1, y1) = corners.min(axis=0) - 0.5, corners.max(axis=0) + 0.5
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, linewidth=width))
    points = np.asarray(prompts.points, dtype=float).reshape(-1, 3)
    pixels, slices = frame.to_pixels(points)
    for (x, y), at, mark in zip(pixels, slices, np.asarray(prompts.point_labels).reshape(-1), strict=True):
        if at == index:
            marker = "+" if mark else "x"
            axes.plot(x, y, marker, color=PROMPT, markersize=11, markeredgewidth=2, path_effects=_OUTLINE)


def zoom(axes: Axes, masks: Iterable[np.ndarray], *, margin: float = 0.35) -> None:
    """Show the objects with their surroundings instead of the whole slice, in a square of millimetres.

    Args:
        axes: with a slice.
        masks: (H, W) bool; where all are empty, the whole slice stays.
        margin: around them, as a share of their size.
    """
    together = np.logical_or.reduce([np.asarray(mask) for mask in masks])
    if not together.any():
        return
    rows, columns = np.nonzero(together)
    aspect = float(axes.get_aspect())
    middle = ((columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2)
    half = max(np.ptp(columns) + 1, (np.ptp(rows) + 1) * aspect) * (0.5 + margin) + 6
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] + half / aspect, middle[1] - half / aspect)


def legend(figure: Figure, entries: Sequence[tuple[str, str, str]]) -> None:
    """A line of names in their colours below the panes.

    Args:
        figure: from `panes`.
        entries: (name, colour, line style).
    """
    handles = [Line2D([], [], color=colour, linestyle=style, label=name) for name, colour, style in entries]
    columns = max(1, min(len(handles), round(figure.get_figwidth() / 1.9)))
    figure.legend(handles=handles, loc="lower center", ncols=columns, labelcolor="white", frameon=False, fontsize=10)


def window_of(image: Volume) -> tuple[float, float]:
    """The grey values that are shown as black and as white."""
    if image.modality == "CT":
        return SOFT_TISSUE_HU
    low, high = (float(value) for value in np.percentile(image.array, (0.5, 99.5)))
    return low, max(high, low + 1e-6)


def crossing(prompts: ObjectPrompts, frame: SliceFrame) -> int | None:
    """The slice of a frame that the first point of a prompt, or the middle of its box, lies on."""
    points = np.asarray(prompts.points, dtype=float).reshape(-1, 3)
    if not len(points) and prompts.box is None:
        return None
    at = points[0] if len(points) else np.asarray(prompts.box, dtype=float).mean(axis=0)
    return int(np.clip(nearest_index(at[frame.slice_axis], frame.depth), 0, frame.depth - 1))
