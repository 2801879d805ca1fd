"""One picture per organ: the slice of the 2D rounds and the volume's answer, beside what is true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bundle.batch.drawing import (
    ANSWER,
    PROMPT,
    TRUTH,
    colour_of,
    draw_contour,
    draw_prompt,
    legend,
    panes,
    save,
    show_slice,
    zoom,
)
from bundle.data.volume import Volume
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame
from monailabel_app.demo.rounds import OrganResult

_KEY = (("truth", TRUTH, "solid"), ("answer", ANSWER, "solid"), ("prompt: box, + on, x off the organ", PROMPT, "solid"))


def draw_organ(path: Path, image: Volume, organ: np.ndarray, result: OrganResult) -> None:
    """Draw one organ and write the PNG: the 2D answer, then the 3D answer on three planes.

    Args:
        path: the file.
        image: the volume.
        organ: (I, J, K) bool, the truth.
        result: what the app answered.
    """
    last_2d, last_3d = (
        [row for row in result.rows if row.prompt.startswith(start)][-1] for start in ("2D box", "3D box")
    )
    centre = np.round(np.argwhere(organ).mean(axis=0)).astype(int)
    planes = (2, int(np.argmax(np.abs(image.affine[1, :3]))), int(np.argmax(np.abs(image.affine[0, :3]))))
    figure, axes = panes(4)
    for number, (axis, plane) in enumerate(zip(axes, (2, *planes), strict=True)):
        row, answer = (last_3d, result.in_volume) if number else (last_2d, result.on_slice)
        frame = SliceFrame.along(image.shape, image.affine, plane)
        index = result.index if plane == 2 else int(centre[plane])
        title = f"{result.name}: {row.prompt}, DSC {row.dsc:.3f}, NSD {row.nsd:.3f}"
        show_slice(axis, image, frame, index, title=title)
        masks = frame.extract(organ, index), frame.extract(answer.mask, index)
        for mask, colour in zip(masks, (TRUTH, ANSWER), strict=True):
            draw_contour(axis, mask, colour)
        asked = (result.volume_box, result.volume_clicks) if number else (result.box, result.clicks)
        draw_prompt(axis, frame, index, _prompts(*asked))
        zoom(axis, masks)
    legend(figure, _KEY)
    save(figure, path)


def draw_overview(
    path: Path,
    image: Volume,
    truth: np.ndarray,
    answer: np.ndarray,
    organs: Mapping[str, int],
    boxes: Mapping[str, list[int]],
) -> None:
    """Draw all organs of a case, truth beside answer, on the axial and the coronal slice that show most of them.

    Args:
        path: the file.
        image: the volume.
        truth: (I, J, K) label map.
        answer: (I, J, K) label map.
        organs: name -> label.
        boxes: name -> the 3D box that was asked, [i0, i1, j0, j1, k0, k1].
    """
    looks = {name: colour_of(position) for position, name in enumerate(organs)}
    figure, axes = panes(4)
    for pair, plane in ((axes[:2], "axial"), (axes[2:], "coronal")):
        frame = SliceFrame.of_plane(image.shape, image.affine, plane)
        index = _richest_slice(frame.stack(truth))
        for axis, labels, title in zip(
            pair, (truth, answer), ("truth", "answer to the 3D boxes (thin) and a click"), strict=True
        ):
            show_slice(axis, image, frame, index, title=title)
            picture = frame.extract(labels, index)
            for name, value in organs.items():
                draw_contour(axis, picture == value, *looks[name])
                if labels is answer and name in boxes:
                    draw_prompt(axis, frame, index, _prompts(boxes[name]), width=0.5, colour=looks[name][0])
    legend(figure, [(name, *look) for name, look in looks.items()])
    save(figure, path)


def _richest_slice(stack: np.ndarray) -> int:
    """The slice that shows the most labels; among equals the one with most labelled pixels."""
    return max(range(len(stack)), key=lambda index: (len(np.unique(stack[index])), np.count_nonzero(stack[index])))


def _prompts(box: list[int], clicks: tuple | list = ()) -> ObjectPrompts:
    """What the user placed: a box [i0, i1, j0, j1, k0, k1] and clicks (i, j, k, 1 on or 0 off the organ)."""
    points = np.array([click[:3] for click in clicks], dtype=float).reshape(-1, 3)
    labels = np.array([click[3] for click in clicks], dtype=int)
    return ObjectPrompts(box=np.array(box, dtype=float).reshape(3, 2).T, points=points, point_labels=labels)
