"""What a network is asked where it does not understand a kind of interaction: the one place that translates.

A scribble becomes points along it. A lasso around the object becomes its area in the mask prompt, and a box around it.
What is enclosed as not the object is taken out of the mask prompt, and its middle becomes a point off the object. That
it holds in the answer, too, is for ``SlicePrompt.honoured`` to see to.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from bundle.prompts.drawing import evenly_along
from bundle.prompts.simulation import interior_point, tight_box
from bundle.prompts.slice_prompts import SliceInteraction, SliceMask, SlicePrompt

# That a scribble becomes. Measured with the shipped network, scribbles along the object on validation slices of the
# shared CT (20 of liver, 19 of pancreas; scripts/compare_scribbles.py), mean DSC with 1, 2, 3, 4, 6 and 8 points: liver
# .940 .939 .944 .943 .943 .943, pancreas .656 .742 .763 .778 .782 .785. One click has .932 and .659. The whole stroke,
# drawn as 40 points, has .942 and .787: no better, so that a network needs no prompt of its own for it.
SCRIBBLE_POINTS = 8
_APART = 2.0  # pixels of the slice: points of a short scribble lie no nearer to each other


def translated(
    prompt: SlicePrompt,
    height: int,
    width: int,
    *,
    understood: Collection[str] = ("point", "box", "mask"),
    scribble_points: int = SCRIBBLE_POINTS,
) -> SlicePrompt:
    """The same prompt in what a network understands: points, at most one box, and a mask.

    Args:
        prompt: of any kinds.
        height, width: of the slice.
        understood: kinds that the network understands, see ``ModelSpec.prompts``. Without "mask" nothing of masks and
            former answers is left but the box around them.
        scribble_points: how many points a scribble becomes at most; a short one becomes fewer.
    """
    if all(_is_plain(one) for one in prompt.interactions) and "mask" in understood:
        return prompt
    points, boxes, areas = [], [], []
    for one in prompt.interactions:
        if _is_plain(one):
            (points if one.kind == "point" else boxes).append(one)
        elif one.kind == "scribble":
            spread = evenly_along(one.xy, scribble_points, spacing=_APART)
            points += [SliceInteraction("point", xy[None], one.positive) for xy in spread]
        else:
            area = one.pixels(height, width)
            points += [] if one.positive else [_point_off(area, prompt.previous)]
            areas += [(area, one.positive)] if one in prompt.unanswered else []
    previous = _with_areas(prompt.previous, areas)
    enclosed = [tight_box(area) for area, positive in areas if positive]
    if not boxes and (enclosed or "mask" not in understood):
        enclosed += [tight_box(prompt.previous.mask)] if _shows(prompt.previous) else []
        boxes = _around(enclosed)
    return SlicePrompt(interactions=(*boxes, *points), previous=previous if "mask" in understood else None)


def _around(boxes: list[np.ndarray]) -> list[SliceInteraction]:
    """The box around (4,) boxes; none around none."""
    corners = np.reshape(boxes, (-1, 2, 2))
    return [SliceInteraction("box", np.stack([corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)]))] if boxes else []


def _is_plain(one: SliceInteraction) -> bool:
    return one.kind == "point" or (one.kind == "box" and one.positive)


def _shows(answer: SliceMask | None) -> bool:
    return answer is not None and bool(answer.mask.any())


def _with_areas(previous: SliceMask | None, areas: list[tuple[np.ndarray, bool]]) -> SliceMask | None:
    """The answer to go on from with areas in it that are, or are not, the object; None where there is none of it."""
    if previous is None and not any(positive for _, positive in areas):
        return None
    mask = np.zeros_like(areas[0][0]) if previous is None else previous.mask.copy()
    for area, positive in areas:
        mask[area] = positive
    return SliceMask(mask) if previous is None else previous.with_mask(mask)


def _point_off(area: np.ndarray, previous: SliceMask | None) -> SliceInteraction:
    """A point off the object in the middle of an area, of its part that was taken for the object if there is any."""
    wrong = area & previous.mask if previous is not None else area
    where = interior_point(wrong if wrong.any() else area)
    return SliceInteraction("point", where.astype(float)[None], positive=False)
