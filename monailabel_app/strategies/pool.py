"""The images of a datastore as strategies see them: with or without a label, scored or not, somebody's or free."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from monailabel.interfaces.datastore import Datastore

from bundle.active.asking import ANYTHING
from bundle.active.scores import ImageScores
from bundle.active.selection import Candidate
from monailabel_app.strategies.assignments import Assignments, last_given

SCORES = "scores"  # in the info of an image


@dataclass(frozen=True)
class Pool:
    """What may be chosen from.

    Attributes:
        unlabelled: images without a final label that nobody else works on and that this user has not skipped; where all
            have been, the one that was longest ago.
        labelled: images with one.
        taken: how many without one somebody else works on.
        note: what has to be said about the scores; empty if they are those of the model that is served.
    """

    unlabelled: list[Candidate]
    labelled: list[Candidate]
    taken: int
    note: str = ""


class Images:
    """Reads the index for strategies.

    Args:
        assignments: who works on what.
        model: identity of the network that is served now.
    """

    def __init__(self, assignments: Assignments, model: Callable[[], str | None]) -> None:
        self.assignments, self._model = assignments, model

    def pool(self, datastore: Datastore, user: str) -> Pool:
        """The images as they are now, for somebody who asks."""
        now, unlabelled, skipped, taken = time.time(), [], {}, 0
        for image in datastore.get_unlabeled_images():
            info = datastore.get_image_info(image)
            if self.assignments.is_taken(image, user, info):
                taken += 1
                continue
            unlabelled.append(_candidate(image, info, now))
            had_at = self.assignments.had_at(image, user, info)
            if had_at is not None:  # and asks for another one, without a label
                skipped[image] = had_at
        labelled = [_candidate(one, datastore.get_image_info(one), now) for one in datastore.get_labeled_images()]
        group, note = self._group_to_compare(unlabelled)
        offered = [one for one in unlabelled if one.name not in skipped]
        offered = offered or [one for one in unlabelled if one.name == min(skipped, key=skipped.get)]
        return Pool(_of_group(offered, group), _of_group(labelled, group), taken, note)

    def _group_to_compare(self, candidates: list[Candidate]) -> tuple[_Group | None, str]:
        """Whose scores count, and of which structures: scores of others cannot be compared with them."""
        served = self._model()
        counts = Counter(_group_of(one.scores) for one in candidates if one.scores is not None)
        if not counts:
            return None, ""
        group = max(counts, key=lambda one: (one[0] == served, counts[one]))
        return group, "" if group[0] == served else "the scores are those of an earlier model"


_Group = tuple[str, tuple[str, ...]]
"""Identity of a model, and the structures that it was asked for."""


def _group_of(scores: ImageScores) -> _Group:
    return scores.model, tuple(sorted(set(scores.structures) - {ANYTHING}))


@runtime_checkable
class TakesNotes(Protocol):
    """A datastore that keeps what the server notes also where nobody may change its images."""

    def note_image(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is noted of an image."""


def note_image(datastore: Datastore, image: str, info: dict[str, Any]) -> None:
    """Let a datastore keep what the server itself says of an image.

    Raises:
        RequestError: it cannot.
    """
    keep = datastore.note_image if isinstance(datastore, TakesNotes) else datastore.update_image_info
    keep(image, info)


def scores_of(info: dict[str, Any]) -> ImageScores | None:
    """The scores that the index holds of an image."""
    return ImageScores.from_json(info.get(SCORES))


def _candidate(image: str, info: dict[str, Any], now: float) -> Candidate:
    given = last_given(info)
    # One that was given out this second can still be drawn: it may be the only one.
    waited = now - min(max(given[1] if given else 0.0, 0.0), now - 1)
    return Candidate(image, scores_of(info), waited)


def _of_group(candidates: list[Candidate], group: _Group | None) -> list[Candidate]:
    """The candidates, without the scores of other groups."""
    return [
        one if one.scores is None or _group_of(one.scores) == group else replace(one, scores=None) for one in candidates
    ]
