"""A picture of a case: the objects outlined on the slices that show most of them, with their prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bundle.batch.cases import Case
from bundle.batch.drawing import colour_of, draw_contour, draw_prompt, legend, panes, save, show_slice
from bundle.transforms.frames import PLANES, SliceFrame


def draw_case(path: Path, case: Case, labels: np.ndarray) -> Path:
    """Draw the axial, coronal and sagittal slice that show most of the objects; of a picture its only slice.

    Args:
        path: of the PNG.
        case: the image and its prompts.
        labels: (I, J, K) the answer.
    """
    objects = {prompt.label: prompt.name for prompt in case.prompts}
    looks = {label: colour_of(position) for position, label in enumerate(objects)}
    frames = [SliceFrame.of_plane(case.image.shape, case.image.affine, plane) for plane in PLANES]
    frames = [frame for frame in frames if min(frame.height, frame.width) > 1] or frames[:1]
    figure, axes = panes(len(frames))
    for axis, frame in zip(axes, frames, strict=True):
        index = _fullest(frame.stack(labels))
        show_slice(axis, case.image, frame, index, title=case.files.name)
        picture = frame.extract(labels, index)
        for label, (colour, style) in looks.items():
            draw_contour(axis, picture == label, colour, style)
        for prompt in case.prompts:
            draw_prompt(axis, frame, index, prompt)
    legend(figure, [(objects[label], *look) for label, look in looks.items()])
    return save(figure, path)


def _fullest(stack: np.ndarray) -> int:
    """The slice that shows the most objects; among equals the one with most labelled pixels."""
    return max(range(len(stack)), key=lambda index: (len(np.unique(stack[index])), np.count_nonzero(stack[index])))
