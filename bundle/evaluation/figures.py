"""The pictures of a report, as `data:` addresses that stand in the page itself.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from bundle.evaluation.statistics import Record, case_means, curve, group_by, summarise
from bundle.evaluation.stored_prompts import prompt_from_json
from bundle.interactive.slice_model import SlicePrompt

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TRUTH, PREDICTION, PROMPT, NEGATIVE = "#56B4E9", "#E69F00", "#F0E442", "#FF4B5C"


@dataclass(frozen=True, eq=False)
class Scene:
    """The slice on which an object's answers are shown.

    Attributes:
        picture: (H, W) or (H, W, 3) uint8.
        truth: (H, W) bool.
        aspect: height of a pixel over its width.
        prompt: what a stored prompt is on this slice.
    """

    picture: np.ndarray
    truth: np.ndarray
    aspect: float = 1.0
    prompt: Callable[[Mapping[str, Any]], SlicePrompt] = prompt_from_json


@dataclass(frozen=True, eq=False)
class Overlay:
    """One object with its answer: `picture` (H, W) or (H, W, 3) uint8, `truth` and `prediction` (H, W) bool.

    `aspect` is the height of a pixel over its width.
    """

    title: str
    picture: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    prompt: SlicePrompt
    aspect: float = 1.0


def box_plots(runs: Mapping[str, Iterable[Record]], score: str, label: str) -> str:
    """The spread over patients: one group for each organ, one box for each run, a dot for each patient."""
    means = {name: case_means(records, score) for name, records in runs.items()}
    organs = sorted({organ for by_organ in means.values() for organ in by_organ})
    figure, axes = _figure(max(4.0, 1.2 + 0.55 * len(organs) * len(runs)), 3.2)
    width = 0.8 / max(1, len(means))
    for n, by_organ in enumerate(means.values()):
        for position, organ in enumerate(organs):
            values = list(by_organ.get(organ, {}).values())
            _box(axes, position + (n - (len(means) - 1) / 2) * width, values, 0.8 * width, _colour(n))
    axes.set_xticks(
        range(len(organs)), organs, rotation=30 if len(organs) > 4 else 0, ha="right" if len(organs) > 4 else "center"
    )
    axes.set_ylabel(label)
    _legend(figure, [Patch(color=_colour(n), label=name) for n, name in enumerate(means)])
    return _svg(figure)


def click_curves(runs: Mapping[str, Iterable[Record]], score: str, label: str) -> str:
    """Mean of `score` over patients after each interaction, with its 95 % interval; one line for each run."""
    figure, axes = _figure(5.0, 3.2)
    for n, (name, records) in enumerate(runs.items()):
        steps = [summarise(rows, score)[-1] for rows in _by_step(records, score)]
        numbers = np.arange(len(steps))
        axes.fill_between(numbers, [s.low for s in steps], [s.high for s in steps], color=_colour(n), alpha=0.15, lw=0)
        axes.plot(numbers, [s.mean for s in steps], color=_colour(n), marker="o", markersize=4, label=name)
    axes.set_xlabel("corrections after the first prompt")
    axes.set_ylabel(label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, axes.get_legend_handles_labels()[0])
    return _svg(figure)


def reliability(rows: Sequence[Mapping[str, Any]], runs: Mapping[str, Iterable[Record]]) -> str:
    """The IoU that a model expects against the IoU it reaches, one line for each row of `calibration_rows`.

    A dot of a line is a bin, as large as its share of the answers; the small dots behind are the answers of `runs`.
    """
    figure, axes = _figure(4.4, 4.2)
    axes.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--")
    for n, row in enumerate(rows):
        known = [record for record in runs[row["run"]] if record.get("predicted_iou") is not None]
        points = [[record["predicted_iou"], record["iou"]] for record in known]
        axes.scatter(*np.transpose(points), s=4, alpha=0.2, color=_colour(n), lw=0, rasterized=True)
        bins = [[part["predicted"], part["reached"], part["answers"] / row["answers"]] for part in row["bins"]]
        x, y, share = np.transpose(bins)
        axes.plot(x, y, color=_colour(n), lw=1.5, label=f"{row['run']}: MAE {row['mae']:.3f}, ECE {row['ece']:.3f}")
        axes.scatter(x, y, s=12 + 200 * share, color=_colour(n), edgecolors="white", lw=0.8, zorder=3)
    axes.set(xlabel="predicted IoU", ylabel="IoU", xlim=(0, 1.03), ylim=(0, 1.03), aspect="equal")
    figure.legend(handles=axes.get_legend_handles_labels()[0], loc="outside upper left", fontsize=8, frameon=False)
    return _svg(figure)


def overlays(cases: Sequence[Overlay], *, margin: float = 0.35) -> str:
    """Pictures side by side with the outlines of truth and prediction and the prompt, cut to the object's surroundings.

    Args:
        cases: at least one.
        margin: of the cut, as a share of the object's size.
    """
    return _png(_overlay_figure(cases, margin))


def overlay_rows(rows: Iterable[Sequence[Overlay]], *, margin: float = 0.35) -> bytes:
    """The pictures of `overlays` below each other, as a PNG file; a short row ends in white.

    Args:
        rows: at least one, each as `overlays` takes it.
        margin: as there.
    """
    strips = [_pixels(_overlay_figure(cases, margin)) for cases in rows]
    width = max(strip.shape[1] for strip in strips)
    page = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(page)).save(buffer, format="png")
    return buffer.getvalue()


# ---- parts ----------------------------------------------------------------------------------------------------------


def _overlay_figure(cases: Sequence[Overlay], margin: float) -> Figure:
    lines = max(case.title.count("\n") for case in cases) + 1
    height = 2.75 + 0.17 * lines
    figure = Figure(figsize=(2.6 * len(cases), height), dpi=110, facecolor="white")
    for n, case in enumerate(cases):
        axes = figure.add_subplot(1, len(cases), n + 1)
        axes.imshow(case.picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect=case.aspect)
        _outline(axes, case.truth, TRUTH)
        _outline(axes, case.prediction, PREDICTION)
        _draw_prompt(axes, case.prompt)
        _cut(axes, case, margin)
        axes.set_title(case.title, fontsize=8)
        axes.set(xticks=[], yticks=[], facecolor="black")  # black also beyond the edge of the picture
        axes.spines[:].set_visible(False)
    columns, bottom = (5, 0.1) if len(cases) > 1 else (3, 0.15)
    legend = {"loc": "lower center", "ncols": columns, "fontsize": 7, "facecolor": "#555555", "labelcolor": "white"}
    figure.legend(handles=_overlay_legend(), columnspacing=1.0, handlelength=1.5, handletextpad=0.5, **legend)
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.18 * lines / height, bottom=bottom, wspace=0.04)
    return figure


def _by_step(records: Iterable[Record], score: str) -> list[list[dict[str, object]]]:
    """Records of every object for each step; an object that was finished early stays at its last score."""
    objects = list(group_by(records, lambda record: (record["key"], record["organ"])).values())
    length = max(len(rows) for rows in objects)
    steps: list[list[dict[str, object]]] = [[] for _ in range(length)]
    for rows in objects:
        values = curve([row[score] for row in rows], length)
        for step, value in zip(steps, values, strict=True):
            step.append({"organ": rows[0]["organ"], "case": rows[0]["case"], score: float(value)})
    return steps


def _box(axes: Axes, position: float, values: Sequence[float], width: float, colour: str) -> None:
    if not values:
        return
    axes.boxplot(
        [values],
        positions=[position],
        widths=width,
        patch_artist=True,
        showfliers=False,
        boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
        medianprops={"color": colour, "linewidth": 2},
        whiskerprops={"color": colour},
        capprops={"color": colour},
        manage_ticks=False,
    )
    spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(values)) * width
    axes.scatter(position + spread, values, s=7, color=colour, alpha=0.6, lw=0, zorder=3)


def _outline(axes: Axes, mask: np.ndarray, colour: str) -> None:
    if mask.any():
        # Padded, so that an object at the edge of the picture has a closed outline.
        rows, columns = (np.arange(-1, size + 1) for size in mask.shape)
        axes.contour(columns, rows, np.pad(mask, 1).astype(float), levels=[0.5], colors=[colour], linewidths=1.4)


def _draw_prompt(axes: Axes, prompt: SlicePrompt) -> None:
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=PROMPT, lw=1.1, ls="--"))
    for label, marker, colour in ((1, "P", PROMPT), (0, "X", NEGATIVE)):
        chosen = prompt.points[prompt.point_labels == label]
        axes.scatter(chosen[:, 0], chosen[:, 1], marker=marker, s=46, c=colour, edgecolors="black", lw=0.7, zorder=4)


def _cut(axes: Axes, case: Overlay, margin: float) -> None:
    """Shows the object, the answer and all prompts."""
    rows, columns = np.nonzero(case.truth | case.prediction)
    shown = [np.stack([columns, rows], axis=1), case.prompt.points]
    if case.prompt.box is not None:
        shown.append(np.reshape(case.prompt.box, (2, 2)))
    shown = np.concatenate(shown)
    if len(shown) == 0:
        return
    # A square, so that all pictures of a row have the same height; rows are counted in widths of a pixel.
    unit = np.array([1.0, case.aspect])
    lower, upper = shown.min(axis=0) * unit, shown.max(axis=0) * unit
    half = (0.5 + margin) * max(*(upper - lower), 16)
    x, y = (lower + upper) / 2
    width, height = case.truth.shape[::-1] * unit
    if 2 * half > max(height, width):
        half, x, y = max(height, width) / 2, (width - 1) / 2, (height - case.aspect) / 2
    axes.set(xlim=(x - half, x + half), ylim=((y + half) / case.aspect, (y - half) / case.aspect))


def _overlay_legend() -> list[Line2D]:
    marker = {"color": "none", "markeredgecolor": "black", "markersize": 7}
    return [
        Line2D([], [], color=TRUTH, lw=2, label="truth"),
        Line2D([], [], color=PREDICTION, lw=2, label="prediction"),
        Line2D([], [], color=PROMPT, lw=1.2, ls="--", label="box"),
        Line2D([], [], marker="P", markerfacecolor=PROMPT, label="point on it", **marker),
        Line2D([], [], marker="X", markerfacecolor=NEGATIVE, label="point off it", **marker),
    ]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Above the plot, where it hides nothing."""
    columns = max(1, int(figure.get_figwidth() // 1.3))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, fontsize=8, frameon=False)


def _colour(n: int) -> str:
    return COLOURS[n % len(COLOURS)]


def _pixels(figure: Figure) -> np.ndarray:
    """(H, W, 3) uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _svg(figure: Figure) -> str:
    return _encoded(figure, "svg", "image/svg+xml")


def _png(figure: Figure) -> str:
    return _encoded(figure, "png", "image/png")


def _encoded(figure: Figure, kind: str, mime: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"
