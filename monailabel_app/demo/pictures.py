"""One picture per organ: the slice of the 2D rounds and the volume's answer, beside what is true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no window: this runs on servers

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from bundle.data.palette import color_of
from bundle.data.volume import Volume
from bundle.transforms.frames import SliceFrame
from monailabel_app.demo.rounds import OrganResult

TRUTH, ANSWER, PROMPT = "#39d353", "#ff5d5d", "#ffd33d"
SOFT_TISSUE_HU = (-160.0, 240.0)  # level 40, width 400: the usual abdominal window


def draw_organ(path: Path, image: Volume, organ: np.ndarray, result: OrganResult) -> None:
    """Draw one organ and write the PNG.

    Args:
        path: the file.
        image: the volume.
        organ: (I, J, K) bool, the truth.
        result: what the app answered.
    """
    scores = {row.prompt: row for row in result.rows}
    centre = np.round(np.argwhere(organ).mean(axis=0)).astype(int)
    planes = (2, int(np.argmax(np.abs(image.affine[1, :3]))), int(np.argmax(np.abs(image.affine[0, :3]))))
    figure, axes = plt.subplots(1, 4, figsize=(18, 5.4), facecolor="black")
    last_2d = [row for prompt, row in scores.items() if prompt.startswith("2D box")][-1]
    last_3d = [row for prompt, row in scores.items() if prompt.startswith("3D box")][-1]
    first = f"{result.name}: {last_2d.prompt}\nDSC {last_2d.dsc:.3f}, NSD {last_2d.nsd:.3f}"
    _draw_plane(axes[0], image, (organ, result.on_slice.mask), 2, result.index, first, result)
    for axis, plane in zip(axes[1:], planes, strict=True):
        title = f"{last_3d.prompt}\nDSC {last_3d.dsc:.3f}, NSD {last_3d.nsd:.3f}" if axis is axes[1] else ""
        index = result.index if plane == 2 else int(centre[plane])
        _draw_plane(axis, image, (organ, result.in_volume.mask), plane, index, title)
    figure.text(0.01, 0.02, "truth", color=TRUTH, size=13)
    figure.text(0.05, 0.02, "answer", color=ANSWER, size=13)
    figure.text(0.1, 0.02, "prompt (+ on, x off the organ)", color=PROMPT, size=13)
    figure.tight_layout(rect=(0, 0.07, 1, 1))  # below lies the key
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, facecolor="black")
    plt.close(figure)


def draw_overview(path: Path, image: Volume, truth: np.ndarray, answer: np.ndarray, organs: Mapping[str, int]) -> None:
    """Draw all organs of a case, truth beside answer, on the axial and the coronal slice that show most of them.

    Args:
        path: the file.
        image: the volume.
        truth: (I, J, K) label map.
        answer: (I, J, K) label map.
        organs: name -> label.
    """
    colors = {value: color_of(position) for position, value in enumerate(organs.values(), start=1)}
    figure, axes = plt.subplots(1, 4, figsize=(18, 5.6), facecolor="black")
    for pair, plane in ((axes[:2], "axial"), (axes[2:], "coronal")):
        frame = SliceFrame.of_plane(image.shape, image.affine, plane)
        index = _richest_slice(frame.stack(truth))
        for axis, labels, title in zip(pair, (truth, answer), ("truth", "answer to 3D boxes"), strict=True):
            _show_slice(axis, image, frame, index)
            axis.imshow(_paint(frame.extract(labels, index), colors), aspect=axis.get_aspect(), interpolation="nearest")
            axis.set_title(f"{plane} {index}: {title}", color="white", size=12)
    handles = [Patch(color=colors[value], label=name) for name, value in organs.items()]
    figure.legend(handles=handles, loc="lower center", ncols=7, labelcolor="white", frameon=False, fontsize=11)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=80, facecolor="black")
    plt.close(figure)


def _richest_slice(stack: np.ndarray) -> int:
    """The slice that shows the most labels; among equals the one with most labelled pixels."""
    return max(range(len(stack)), key=lambda index: (len(np.unique(stack[index])), np.count_nonzero(stack[index])))


def _paint(labels: np.ndarray, colors: Mapping[int, tuple[float, ...]]) -> np.ndarray:
    """(H, W, 4) colours of a (H, W) label map, see-through where there is none."""
    painted = np.zeros((*labels.shape, 4))
    for value, color in colors.items():
        painted[labels == value] = (*color[:3], 0.55)
    return painted


def _show_slice(axes: Axes, image: Volume, frame: SliceFrame, index: int) -> None:
    dy, dx = frame.pixel_spacing(image.spacing)
    low, high = _window(image)
    axes.imshow(frame.extract(image.array, index), cmap="gray", vmin=low, vmax=high, aspect=dy / dx)
    axes.set_axis_off()


def _draw_plane(
    axes: Axes,
    image: Volume,
    masks: tuple[np.ndarray, np.ndarray],
    axis: int,
    index: int,
    title: str,
    result: OrganResult | None = None,
) -> None:
    frame = SliceFrame.along(image.shape, image.affine, axis)
    _show_slice(axes, image, frame, index)
    for mask, color in zip(masks, (TRUTH, ANSWER), strict=True):
        picture = frame.extract(mask, index)
        if picture.any():
            axes.contour(picture, levels=[0.5], colors=[color], linewidths=1.2)
    _zoom(axes, frame.extract(masks[0] | masks[1], index))
    if result is not None:
        _draw_prompt(axes, frame, result)
    axes.set_title(title or f"{frame.plane} {index}", color="white", size=12)


def _draw_prompt(axes: Axes, frame: SliceFrame, result: OrganResult) -> None:
    i0, i1, j0, j1 = result.box[:4]
    corners, _ = frame.to_pixels(np.array([[i0, j0, result.index], [i1, j1, result.index]]))
    (x0, y0), (x1, y1) = corners.min(axis=0) - 0.5, corners.max(axis=0) + 0.5
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=PROMPT, linewidth=1.0))
    for i, j, k, mark in result.clicks:
        ((x, y),), _ = frame.to_pixels(np.array([[i, j, k]]))
        axes.plot(x, y, marker="+" if mark else "x", color=PROMPT, markersize=11, markeredgewidth=2)


def _zoom(axes: Axes, picture: np.ndarray) -> None:
    """Show the organ with its surroundings instead of the whole slice."""
    if not picture.any():
        return
    rows, columns = np.nonzero(picture)
    for values, limit, size in ((columns, axes.set_xlim, picture.shape[1]), (rows, axes.set_ylim, picture.shape[0])):
        margin = max(12, (values.max() - values.min()) // 3)
        low, high = max(values.min() - margin, 0) - 0.5, min(values.max() + margin, size - 1) + 0.5
        limit(low, high) if limit == axes.set_xlim else limit(high, low)


def _window(image: Volume) -> tuple[float, float]:
    if image.modality == "CT":
        return SOFT_TISSUE_HU
    return tuple(float(value) for value in np.percentile(image.array, (0.5, 99.5)))
