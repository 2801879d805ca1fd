"""The page of an audit: findings by rule, and a picture of intensities, object sizes and the images they are about."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bundle.data.audit import LOOK, RULES, Audit
from bundle.data.audit_facts import Facts
from bundle.data.dataset_files import read_image
from bundle.data.datasets import Item
from bundle.data.grid import check_grid
from bundle.data.palette import color_of
from bundle.data.volume import VolumeError, read_label
from bundle.files import write_atomically, write_text
from bundle.transforms.frames import SliceFrame

SHOWN = 8  # images
COLUMNS = 4
PLAIN, FLAGGED = "#0072B2", "#D55E00"  # Okabe and Ito's, which stay apart for colour-blind readers


def write_page(result: Audit, items: Mapping[str, Item], folder: Path, *, name: str) -> Path:
    """Writes ``check.html`` and ``check.png``; the path of the page.

    Args:
        result: the audit.
        items: by key.
        folder: where to.
        name: of the data set.
    """
    picture = _picture(result, items)
    write_atomically(folder / "check.png", lambda partial: Path(partial).write_bytes(picture))
    rules = {
        rule: {"level": level, "meaning": meaning, "findings": [f for f in result.findings if f.rule == rule]}
        for rule, (level, meaning) in RULES.items()
    }
    text = _template().render(
        name=name,
        items=len(result.facts),
        patients=len({facts.patient for facts in result.facts.values()}),
        splits=", ".join(f"{count} {split}" for split, count in result.patients.items()),
        wrong=len(result.wrong),
        look=sum(finding.level == LOOK for finding in result.findings),
        rules=rules,
        objects=_objects(result),
    )
    return write_text(folder / "check.html", text)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string((Path(__file__).parent / "audit.html").read_text(encoding="utf-8"))


def _objects(result: Audit) -> list[list[str | int]]:
    """A row for each organ: images and patients that show it, and its smallest, median and largest voxel counts."""
    sizes, patients = defaultdict(list), defaultdict(set)
    for facts in result.facts.values():
        for organ, count in facts.objects.items():
            sizes[organ].append(count)
            patients[organ].add(facts.patient)
    return [
        [organ, len(found), len(patients[organ]), min(found), int(np.median(found)), max(found)]
        for organ, found in sorted(sizes.items())
    ]


# --- the picture -----------------------------------------------------------------------------------------------------


def _picture(result: Audit, items: Mapping[str, Item]) -> bytes:
    chosen = _chosen(result)
    rows = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(13, 3.6 + 3.4 * rows), dpi=90, layout="constrained")
    grid = figure.add_gridspec(1 + rows, COLUMNS)
    flagged = {rule: {key for f in result.findings if f.rule == rule for key in f.items} for rule in RULES}
    readable = [facts for facts in result.facts.values() if facts.error is None]
    _draw_intensities(figure.add_subplot(grid[0, :2]), readable, flagged["intensity"])
    _draw_sizes(figure.add_subplot(grid[0, 2:]), readable, flagged["tiny_object"])
    for n, (key, about) in enumerate(chosen.items()):
        axes = figure.add_subplot(grid[1 + n // COLUMNS, n % COLUMNS])
        _draw_image(axes, result.facts[key], items[key], about)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _chosen(result: Audit) -> dict[str, str]:
    """Key -> what is shown of it: the images of the findings, those of each rule in turn, else some of the set."""
    queues = [[(key, f.rule) for f in result.findings if f.rule == rule for key in f.items] for rule in RULES]
    turns = [queue[n] for n in range(SHOWN) for queue in queues if n < len(queue)]
    chosen: dict[str, str] = {}
    for key, rule in turns:
        if result.facts[key].error is None and (key in chosen or len(chosen) < SHOWN):
            chosen[key] = f"{chosen[key]}, {rule}" if key in chosen and rule not in chosen[key] else rule
    others = [key for key, facts in result.facts.items() if facts.error is None and key not in chosen]
    wanted = max(0, COLUMNS - len(chosen)) if chosen else SHOWN
    picked = np.linspace(0, len(others) - 1, min(wanted, len(others))).round().astype(int)
    return chosen | {others[n]: "nothing found" for n in picked.tolist()}


def _draw_intensities(axes: Axes, readable: Sequence[Facts], flagged: set[str]) -> None:
    ordered = sorted(readable, key=lambda facts: (facts.modality, facts.percentiles[1]))
    for is_flagged, colour in ((False, PLAIN), (True, FLAGGED)):
        places = [n for n, facts in enumerate(ordered) if (facts.key in flagged) == is_flagged]
        for part, marker in enumerate("v_^"):
            axes.plot(places, [ordered[n].percentiles[part] for n in places], marker, color=colour, markersize=4)
    kinds = ", ".join(dict.fromkeys(facts.modality for facts in ordered))
    axes.set(xlabel=f"images by modality ({kinds}) and median", ylabel="intensity")
    axes.set_title("99th percentile (up), median and 1st percentile (down); outliers in orange", fontsize=9)


def _draw_sizes(axes: Axes, readable: Sequence[Facts], flagged: set[str]) -> None:
    organs = sorted({organ for facts in readable for organ in facts.objects})
    rng = np.random.default_rng(0)
    for n, organ in enumerate(organs):
        for tiny, colour in ((False, PLAIN), (True, FLAGGED)):
            chosen = [f for f in readable if organ in f.objects and (f.key in flagged) == tiny]
            places = n + rng.uniform(-0.25, 0.25, len(chosen))
            axes.plot(places, [f.objects[organ] for f in chosen], ".", color=colour, markersize=4, alpha=0.6)
    axes.set_yscale("log")
    axes.set_xticks(range(len(organs)), organs, rotation=30 if len(organs) > 3 else 0, fontsize=8)
    axes.set_ylabel("voxels of an object")
    axes.set_title("sizes; images with a tiny object in orange", fontsize=9)


def _draw_image(axes: Axes, facts: Facts, item: Item, about: str) -> None:
    """The slice that shows most of the labels, with their outlines."""
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"{about}\n{facts.key[-40:]}", fontsize=8)
    try:
        image = read_image(item)
        label = check_grid(image, read_label(item["label"]))
    except (VolumeError, OSError) as error:  # it was readable a moment ago
        axes.text(0.5, 0.5, str(error)[:80], ha="center", wrap=True, fontsize=7)
        return
    axis = image.shape.index(1) if facts.is_picture else 2
    frame = SliceFrame.along(image.shape, image.affine, axis)
    others = tuple(n for n in range(3) if n != axis)
    index = int(np.count_nonzero(label.array, axis=others).argmax()) if label.array.any() else frame.depth // 2
    picture, truth = frame.extract(image.array, index), frame.extract(label.array, index)
    low, _, high = facts.percentiles
    shown = np.clip((picture.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    height, width = frame.pixel_spacing(image.spacing)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=height / width)
    for value in np.unique(truth[truth > 0]):
        padded = np.pad(truth == value, 1).astype(float)  # so that an object at the edge has a closed outline
        rows, columns = (np.arange(-1, size + 1) for size in truth.shape)
        axes.contour(columns, rows, padded, levels=[0.5], colors=[color_of(int(value))], linewidths=1.2)
