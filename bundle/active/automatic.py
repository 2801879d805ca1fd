"""Objects without prompts: the structures of accepted labels, each asked where they have it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bundle.active.places import Place
from bundle.interactive.answer_options import NO_OPTIONS, AnswerOptions
from bundle.interactive.proposals import Proposal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.volume_model import Progress
from bundle.prompts.prompts import ObjectPrompts

_REACH = 2.0  # standard deviations that a box is larger than the mean of the labelled images


def known_structures(
    session: InteractiveSession,
    places: Mapping[str, Place],
    *,
    axis: int = 2,
    options: AnswerOptions = NO_OPTIONS,
    progress: Progress | None = None,
) -> list[Proposal]:
    """Ask for each structure with a box where the labelled images have it, a little larger; changes nothing.

    Args:
        session: of the image.
        places: name -> where it is.
        axis: stored axis that they are followed along.
        options: how the answers are bounded and cleaned.
        progress: told of every slice that is asked, and how far the structure is; what it raises ends it.

    Returns:
        What was found, with predicted IoU by slice; structures of which nothing was found are left out.
    """
    found = []
    first, last = options.along(axis) or (0, session.volume.shape[axis] - 1)
    for name, place in places.items():
        box = np.rint(larger(place).box_in(session.volume))
        if box[0, axis] > last or box[1, axis] < first:
            continue  # it is expected beyond the limits
        box[:, axis] = np.clip(box[:, axis], first, last)
        prompts = ObjectPrompts(box=box, name=name)
        answer = session.segment_volume(prompts, axis=axis, options=options, progress=progress)
        if answer.mask.any():
            found.append(Proposal(name, answer.mask, predicted_iou=dict(answer.scores), axis=axis))
    return found


def larger(place: Place) -> Place:
    """The place with its corners moved outward by as much as those of the labelled images vary."""
    outward = _REACH * place.spread
    return Place(place.low - outward[0], place.high + outward[1], place.spread)
