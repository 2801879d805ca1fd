"""Whether a trained network may take the place of the one that is served.

Both answer the same simulated prompts on two sets: held-out labels, which the network that is served must not have done
better, and generated phantoms, on which the one that the server was started with must not have done better. (Compared
with the version before alone, a little could be lost with each.)

Of each structure the mean DSC and NSD over its objects and over both prompts (a box with sides up to 5 pixels of 256
outward; one point in the middle) may be lower by at most ``TOLERANCE``, and the mean over the structures of the
held-out labels by at most ``MEAN_TOLERANCE``. NSD is at 2 pixels of a slice of 256. Phantoms are judged by DSC alone:
they say whether a prompt still finds what it asks for, but where exactly a drawn organ ends is nothing that a network
has learnt. (Five labels of the hippocampus took the NSD of the phantoms' liver from 0.586 to 0.555 and raised that of
real livers by 0.008.) The objects are few, so that a small fall can be chance: one of less than ``LARGE`` counts where
Student's one-sided test over the objects, each compared with itself, says at ``CERTAINTY`` that it is none.

Labels that are wrong everywhere alike are wrong in the held-out patients too, so that learning them looks like a gain.
But they do not follow their images: whoever has seen no image, and draws the mean shape of the labels that train into
each box, does as well there as a network. So a network that has learnt all of them has to do better, by more than
chance, before any share of what it learnt is published. (An ellipse is no such bar: five labels of other patients'
hippocampus took a network from a DSC of 0.73 to 0.81 in boxes where an ellipse has 0.78 and the mean shape 0.81. Of
five right ones a network has 0.82 and the mean shape 0.76.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its modules are imported when they are used

from bundle.data.labelled_slice import LabelledSlice
from bundle.evaluation.cases import SliceCase
from bundle.evaluation.interaction import run_protocol
from bundle.evaluation.models import OpenCase, open_baseline, open_slices
from bundle.evaluation.protocols import object_rng, protocol_named
from bundle.evaluation.statistics import group_by
from bundle.interactive.slice_model import SlicePredictor
from monailabel_app.learning.mean_shape import mean_shape

TOLERANCE = 0.01  # of a structure
MEAN_TOLERANCE = 0.002  # of the mean over structures, where single objects average out
LARGE = 0.03  # a fall of so much is never taken for chance
CERTAINTY = 0.95
PROMPTS = {"box": "box_jitter_20", "point": "points_1"}
BOX = "box"
HELD_OUT, REPLAY, SHAPE = "held_out", "replay", "shape"
JUDGED_BY = {HELD_OUT: ("dsc", "nsd"), REPLAY: ("dsc",)}
OBJECTS = {HELD_OUT: 10, REPLAY: 4}  # of each structure
NSD_TOLERANCE = 2.0  # pixels of a slice of 256


@dataclass(frozen=True)
class Score:
    """How well a structure was outlined.

    Attributes:
        part: "held_out" or "replay", or "shape": of the mean shape in the boxes of the held-out labels.
        structure: its name.
        prompt: "box" or "point".
        dscs, nsds: of its objects, each on a slice; the same ones in the same order of every network.
    """

    part: str
    structure: str
    prompt: str
    dscs: tuple[float, ...]
    nsds: tuple[float, ...]

    @property
    def dsc(self) -> float:
        """The mean over the objects."""
        return float(np.mean(self.dscs))

    @property
    def nsd(self) -> float:
        """The mean over the objects."""
        return float(np.mean(self.nsds))


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


def measure_shapes(
    slices: Sequence[LabelledSlice], training: Sequence[LabelledSlice], names: Mapping[int, str], *, seed: int = 0
) -> list[Score]:
    """The same objects of held-out labels, and the mean shape of the labels that train in the box of each.

    A structure that trains nowhere has none. Other arguments as ``measure``.
    """
    scores = []
    for value, structure in sorted(names.items()):
        if masks := [labelled.labels == value for labelled in training if value in labelled.ids]:
            draw, boxes = open_baseline(mean_shape(masks)), {BOX: PROMPTS[BOX]}
            scores += _measure(draw, slices, {value: structure}, boxes, SHAPE, OBJECTS[HELD_OUT], seed=seed)
    return scores


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
                dscs, nsds = (tuple(round(float(value), 4) for value in column) for column in zip(*values, strict=True))
                scores.append(Score(part, structure, prompt, dscs, nsds))
    return scores


def judge(before: Sequence[Score], after: Sequence[Score]) -> Verdict:
    """Compare a network that is to be served with what must not be lost.

    Args:
        before: on held-out labels of the network that is served, and on the replay set of the one that the server was
            started with.
        after: of the new network, on the same.
    """
    if not any(score.part == HELD_OUT for score in before):
        return Verdict(False, ("no held-out label shows an object of 20 pixels on a slice, so nothing can be judged",))
    reasons = []
    old, new = (_by_structure([one for one in scores if one.part in JUDGED_BY]) for scores in (before, after))
    for (part, structure), values in old.items():
        for score in JUDGED_BY[part]:
            value, change = values[score], new[part, structure][score] - values[score]
            if _fell([change], TOLERANCE):
                what = f"{structure} ({_WORDS[part]})"
                reasons.append(_sentence(what, score, np.mean(value), np.mean(value + change), TOLERANCE))
    held_out = [key for key in old if key[0] == HELD_OUT]
    for score in JUDGED_BY[HELD_OUT]:
        if _fell([new[key][score] - old[key][score] for key in held_out], MEAN_TOLERANCE):
            means = mean_of(before, score), mean_of(after, score)
            reasons.append(_sentence("the mean of the held-out labels", score, *means, MEAN_TOLERANCE))
    return Verdict(not reasons, tuple(reasons))


def judge_labels(shapes: Sequence[Score], whole: Sequence[Score]) -> Verdict:
    """Whether labels follow their images: whoever learns them has to surpass who draws their mean shape.

    That is asked of all structures together, as each has few objects. But no right one makes up for a wrong one: of
    none the network may be clearly worse, by more than ``LARGE``.

    Args:
        shapes: of ``measure_shapes``; other scores are left alone.
        whole: of the network with all of the change, on the same objects.
    """
    drawn = {one.structure: one for one in shapes if one.part == SHAPE}
    boxes = [one for one in whole if (one.part, one.prompt) == (HELD_OUT, BOX) and one.structure in drawn]
    gains = [np.subtract(one.dscs, drawn[one.structure].dscs) for one in boxes]
    if gains and np.mean([gain.mean() for gain in gains]) <= _by_chance(gains):
        means = float(np.mean([one.dsc for one in boxes])), mean_dsc_in_boxes(shapes, SHAPE)
        return Verdict(False, (_no_better("the held-out labels", means, "not clearly more"),))
    reasons = tuple(
        _no_better(one.structure, (one.dsc, drawn[one.structure].dsc), "clearly less")
        for one, gain in zip(boxes, gains, strict=True)
        if -gain.mean() > max(LARGE, _by_chance([gain]))
    )
    return Verdict(not reasons, reasons)


def mean_of(scores: Sequence[Score], score: str) -> float:
    """The mean DSC or NSD over structures and prompts of the held-out labels; 0 where there are none."""
    values = [getattr(one, score) for one in scores if one.part == HELD_OUT]
    return float(np.mean(values)) if values else 0.0


def mean_dsc_in_boxes(scores: Sequence[Score], part: str) -> float:
    """The mean DSC from a box over the structures of a part; 0 where there are none."""
    values = [one.dsc for one in scores if (one.part, one.prompt) == (part, BOX)]
    return float(np.mean(values)) if values else 0.0


def score_rows(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """As JSON, with the means."""
    return [
        {
            "part": one.part,
            "structure": one.structure,
            "prompt": one.prompt,
            "objects": len(one.dscs),
            "dsc": round(one.dsc, 4),
            "nsd": round(one.nsd, 4),
            "dscs": list(one.dscs),
            "nsds": list(one.nsds),
        }
        for one in scores
    ]


def scores_from_rows(rows: Sequence[Mapping[str, Any]]) -> list[Score]:
    """What ``score_rows`` wrote."""
    named = ("part", "structure", "prompt")
    return [Score(*(row[name] for name in named), tuple(row["dscs"]), tuple(row["nsds"])) for row in rows]


_WORDS = {HELD_OUT: "held-out labels", REPLAY: "generated phantoms"}


def _by_structure(scores: Sequence[Score]) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """(part, structure) -> "dsc" and "nsd" of each object, (N,) means over the prompts."""
    groups = group_by(scores, lambda one: (one.part, one.structure))
    return {
        key: {name: np.mean([getattr(one, f"{name}s") for one in group], axis=0) for name in ("dsc", "nsd")}
        for key, group in groups.items()
    }


def _fell(changes: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether the mean over structures is a fall of more than a tolerance, and not chance.

    Args:
        changes: of each structure, (N,) of its objects.
        tolerance: less is no fall.
    """
    fall = -float(np.mean([np.mean(change) for change in changes]))
    return fall > tolerance and (fall > LARGE or fall > _by_chance(changes))


def _by_chance(changes: Sequence[np.ndarray]) -> float:
    """How much a mean over structures may be where there is no change; 0 where so few objects say nothing of that.

    Args:
        changes: of each structure, (N,) of its objects.
    """
    counts = [len(change) for change in changes]
    if min(counts) < 2:
        return 0.0
    error = np.sqrt(sum(np.var(change, ddof=1) / len(change) for change in changes)) / len(changes)
    return float(scipy.stats.t.ppf(CERTAINTY, sum(counts) - len(counts)) * error)


def _sentence(what: str, score: str, before: float, after: float, tolerance: float) -> str:
    return f"{score.upper()} of {what} fell from {before:.3f} to {after:.3f}, more than {tolerance:g} are too many"


def _no_better(what: str, means: tuple[float, float], how: str) -> str:
    return (
        f"DSC of {what} is {means[0]:.3f} in a box, {how} than the {means[1]:.3f} of the labels' mean shape: they do "
        "not follow their images, or need more labels or a longer training"
    )


def _spread(slices: Sequence[LabelledSlice], count: int) -> list[LabelledSlice]:
    """So many slices, evenly over all, the ends left out."""
    if len(slices) <= count:
        return list(slices)
    return [slices[int((number + 0.5) * len(slices) / count)] for number in range(count)]
