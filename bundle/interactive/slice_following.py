"""A volume model that follows an object slice by slice, from where it was prompted until it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from bundle.data.volume import Volume
from bundle.interactive.following import Click, Followed, Follower, Start
from bundle.interactive.propagation import PropagationRule
from bundle.interactive.segmentation import Timer
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt
from bundle.interactive.volume_model import Progress, VolumePrediction
from bundle.interactive.volume_slices import VolumeSlices
from bundle.prompts.on_slices import box_on_slice, slice_range
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame


@dataclass(frozen=True, eq=False)
class _Steps:
    """One object as it was followed through the volume: after its start, and after each click.

    Attributes:
        axis: that it was followed along.
        start: of the object.
        states: the first without a click, each with one more than that before.
    """

    axis: int
    start: Start
    states: tuple[Followed, ...]

    def known(self, clicks: Sequence[Click]) -> int:
        """How many of these clicks, from the first on, were answered."""
        answered = zip(self.states[-1].clicks, clicks, strict=False)
        return sum(takewhile(bool, (one.same(other) for one, other in answered)))


class SliceFollowing:
    """Follows an object with any model of slices.

    The object starts from its box or, without one, from its first foreground point. A box that covers a range of slices
    bounds it; otherwise it is followed until it ends. Every other point corrects the answer so far, on whatever slice
    it lies: see ``following.Follower``. A further click costs only the slices that it changes.

    Args:
        predictor: the model of slices.
        rule: how a slice's answer travels through the volume; by default with what the family's contract carries.
    """

    def __init__(self, predictor: SlicePredictor, *, rule: PropagationRule | None = None) -> None:
        self.predictor = predictor
        self.rule = rule or PropagationRule(carried=predictor.contract.carried)

    def start(self, volume: Volume) -> VolumeSlices:
        """The slices of the volume; see ``VolumeModel``."""
        return VolumeSlices(volume, self.predictor)

    def predict(
        self,
        state: VolumeSlices,
        prompts: ObjectPrompts,
        previous: VolumePrediction | None,
        *,
        axis: int = 2,
        progress: Progress | None = None,
    ) -> VolumePrediction:
        """As ``VolumeModel``."""
        timer, frame = Timer(), state.frame(axis)
        start, clicks = _started_by(prompts, frame)

        def ask(index: int, prompt: SlicePrompt) -> SliceMask:
            if progress is not None:
                progress(index)
            return state.ask(frame, index, prompt, timer)

        picture = partial(frame.extract, state.volume.array)
        follower = Follower(ask, start, depth=frame.depth, rule=self.rule, picture=picture)
        steps = _followed(follower, axis, start, clicks, None if previous is None else previous.memory)
        found = steps.states[len(clicks)]
        return VolumePrediction(state.segmentation(found.answers, frame, timer), steps)


def _followed(follower: Follower, axis: int, start: Start, clicks: Sequence[Click], before: _Steps | None) -> _Steps:
    """The object after its start and after each click; those that were answered before are not answered again."""
    if before is None or before.axis != axis or not before.start.same(start):
        before = _Steps(axis, start, (follower.begin(),))
    known = before.known(clicks)
    states = list(before.states if known == len(clicks) else before.states[: known + 1])
    for click in clicks[known:]:
        states.append(follower.correct(states[-1], click))
    return _Steps(axis, start, tuple(states))


def _started_by(prompts: ObjectPrompts, frame: SliceFrame) -> tuple[Start, list[Click]]:
    """What starts an object, its box or else its first point on it, and the other points in their order."""
    xy, indices = frame.to_pixels(prompts.points)
    clicks = [Click(int(i), at, int(label)) for at, i, label in zip(xy, indices, prompts.point_labels, strict=True)]
    if prompts.box is not None:
        return Start(*slice_range(prompts, frame), box=box_on_slice(prompts, frame)), clicks
    point = clicks.pop(next(position for position, click in enumerate(clicks) if click.label == 1))
    return Start(point.index, point.index, point=point), clicks
