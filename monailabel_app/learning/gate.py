"""Whether a trained network may take the place of the one that is served.

Both answer the same simulated prompts on two sets: held-out labels, which the network that is served must not have done
better, and generated phantoms, on which the one that the server was started with must not have done better. (Compared
with the version before alone, a little could be lost with each.)

Of each structure the mean DSC and NSD over its objects and over both prompts (a box with sides up to 5 pixels of 256
outward; one point in the middle) may be lower by at most ``TOLERANCE``, and the mean over the structures of the
held-out labels by at most ``MEAN_TOLERANCE``. NSD is at 2 pixels of a slice of 256.

Labels that are wrong everywhere alike are wrong in the held-out patients too, so that learning them looks like a gain.
But they do not follow their images: a network that looks at the image answers their boxes worse than an ellipse in each
box, which looks at nothing, and is not published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bundle.data.labelled_slice import LabelledSlice
from bundle.evaluation.baselines import ellipse
from bundle.evaluation.cases import SliceCase
from bundle.evaluation.interaction import run_protocol
from bundle.evaluation.models import OpenCase, open_baseline, open_slices
from bundle.evaluation.protocols import object_rng, protocol_named
from bundle.evaluation.statistics import group_by
from bundle.interactive.slice_model import SlicePredictor

TOLERANCE = 0.01  # of a structure
MEAN_TOLERANCE = 0.002  # of the mean over structures, where single objects average out
PROMPTS = {"box": "box_jitter_20", "point": "points_1"}
BOX = "box"
HELD_OUT, REPLAY, ELLIPSE = "held_out", "replay", "ellipse"
OBJECTS = {HELD_OUT: 10, REPLAY: 4}  # of each structure
NSD_TOLERANCE = 2.0  # pixels of a slice of 256


@dataclass(frozen=True)
class Score:
    """How well a structure was outlined.

    Attributes:
        part: "held_out" or "replay", or "ellipse": of ellipses in the boxes of the held-out labels.
        structure: its name.
        prompt: "box" or "point".
        objects: how many of them, each on a slice.
        dsc, nsd: means over them.
    """

    part: str
    structure: str
    prompt: str
    objects: int
    dsc: float
    nsd: float


@dataclass(frozen=True)
class Verdict:
    """Whether a network is published, and why not."""

    accepted: bool
    reasons: tuple[str, ...] = ()


def measure(
    predictor: SlicePredictor,
    slices: Sequence[LabelledSlice],
    names: Mapping[int, str],
    *,
    part: str,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> list[Score]:
    """Ask a network for objects of each structure, spread over the slices that show it.

    Args:
        predictor: the network.
        slices: with the intensity views of its contract.
        names: label value -> structure.
        part: "held_out" or "replay"; decides how many objects.
        seed: of the prompts, which are the same for each network.
        progress: called after each object.
    """
    return _measure(open_slices(predictor), slices, names, PROMPTS, part, OBJECTS[part], seed=seed, progress=progress)


def measure_ellipses(slices: Sequence[LabelledSlice], names: Mapping[int, str], *, seed: int = 0) -> list[Score]:
    """The same objects of held-out labels, and an ellipse in the box of each. Arguments as ``measure``."""
    boxes = {BOX: PROMPTS[BOX]}
    return _measure(open_baseline(ellipse), slices, names, boxes, ELLIPSE, OBJECTS[HELD_OUT], seed=seed)


def _measure(
    open_case: OpenCase,
    slices: Sequence[LabelledSlice],
    names: Mapping[int, str],
    prompts: Mapping[str, str],
    part: str,
    count: int,
    *,
    seed: int,
    progress: Callable[[], object] = lambda: None,
) -> list[Score]:
    scores = []
    for value, structure in sorted(names.items()):
        shown = _spread([labelled for labelled in slices if value in labelled.ids], count)
        results: dict[str, list[tuple[float, float]]] = {prompt: [] for prompt in prompts}
        for labelled in shown:
            case = SliceCase(labelled)
            for prompt, protocol in prompts.items():
                *_, last = run_protocol(
                    protocol_named(protocol),
                    open_case(case),
                    case.labels == value,
                    rng=object_rng(seed, f"{labelled.patient} {labelled.key} {structure}"),
                    spacing=case.spacing,
                    tolerance=NSD_TOLERANCE,
                )
                results[prompt].append((last.score.dsc, last.score.nsd))
            progress()
        for prompt, values in results.items():
            if values:
                dsc, nsd = np.mean(values, axis=0)
                scores.append(Score(part, structure, prompt, len(values), round(float(dsc), 4), round(float(nsd), 4)))
    return scores


def judge(before: Sequence[Score], after: Sequence[Score]) -> Verdict:
    """Compare a trained network with what must not be lost.

    Args:
        before: on held-out labels of the network that is served, on the replay set of the one that the server was
            started with, and of ``measure_ellipses``.
        after: of the trained network, on the same.
    """
    if not any(score.part == HELD_OUT for score in before):
        return Verdict(False, ("no held-out label shows an object of 20 pixels on a slice, so nothing can be judged",))
    reasons = []
    old, new = _by_structure([one for one in before if one.part != ELLIPSE]), _by_structure(after)
    for (part, structure), values in old.items():
        for score, value in values.items():
            loss = value - new[part, structure][score]
            if loss > TOLERANCE:
                reasons.append(_sentence(f"{structure} ({_WORDS[part]})", score, value, loss, TOLERANCE))
    for score in ("dsc", "nsd"):
        value = mean_of(before, score)
        loss = value - mean_of(after, score)
        if loss > MEAN_TOLERANCE:
            reasons.append(_sentence("the mean of the held-out labels", score, value, loss, MEAN_TOLERANCE))
    bar, boxes = (_mean_dsc_in_boxes(scores, part) for scores, part in ((before, ELLIPSE), (after, HELD_OUT)))
    if boxes < bar:
        reasons.append(
            f"DSC of the held-out labels is {boxes:.3f} in a box, less than the {bar:.3f} of an ellipse in the box: "
            "they do not follow their images, or need more labels or a longer training"
        )
    return Verdict(not reasons, tuple(reasons))


def mean_of(scores: Sequence[Score], score: str) -> float:
    """The mean DSC or NSD over structures and prompts of the held-out labels; 0 where there are none."""
    values = [getattr(one, score) for one in scores if one.part == HELD_OUT]
    return float(np.mean(values)) if values else 0.0


def score_rows(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """As JSON."""
    return [asdict(score) for score in scores]


def scores_from_rows(rows: Sequence[Mapping[str, Any]]) -> list[Score]:
    """What ``score_rows`` wrote."""
    return [Score(**row) for row in rows]


_WORDS = {HELD_OUT: "held-out labels", REPLAY: "generated phantoms"}


def _by_structure(scores: Sequence[Score]) -> dict[tuple[str, str], dict[str, float]]:
    groups = group_by(scores, lambda one: (one.part, one.structure))
    return {
        key: {name: float(np.mean([getattr(one, name) for one in group])) for name in ("dsc", "nsd")}
        for key, group in groups.items()
    }


def _mean_dsc_in_boxes(scores: Sequence[Score], part: str) -> float:
    """Mean over structures; 0 where there are none."""
    values = [one.dsc for one in scores if (one.part, one.prompt) == (part, BOX)]
    return float(np.mean(values)) if values else 0.0


def _sentence(what: str, score: str, value: float, loss: float, tolerance: float) -> str:
    return (
        f"{score.upper()} of {what} fell from {value:.3f} to {value - loss:.3f}, more than {tolerance:g} are too many"
    )


def _spread(slices: Sequence[LabelledSlice], count: int) -> list[LabelledSlice]:
    """So many slices, evenly over all, the ends left out."""
    if len(slices) <= count:
        return list(slices)
    return [slices[int((number + 0.5) * len(slices) / count)] for number in range(count)]
