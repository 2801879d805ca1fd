"""A volume model that follows an object slice by slice, from where it was prompted until it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from bundle.data.volume import Volume
from bundle.errors import PromptError
from bundle.interactive.following import Followed, Follower
from bundle.interactive.propagation import Ask, PropagationRule
from bundle.interactive.segmentation import Timer
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt
from bundle.interactive.sliced import SlicedInteraction, reach_of, started_first
from bundle.interactive.volume_model import Progress, Teller, VolumePrediction
from bundle.interactive.volume_slices import VolumeSlices
from bundle.prompts.crossings import crossings_of_area
from bundle.prompts.interactions import Box
from bundle.prompts.prompts import ObjectPrompts
from bundle.transforms.frames import SliceFrame

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Steps:
    """One object as it was followed through the volume: after its start, and after each further interaction.

    Attributes:
        axis: that it was followed along.
        limits: first and last slice that it was followed to, or None.
        states: each was given one interaction more than that before.
    """

    axis: int
    limits: tuple[int, int] | None
    states: tuple[Followed, ...]

    def known(self, given: Sequence[SlicedInteraction]) -> int:
        """How many of these interactions, from the first on, were answered."""
        answered = zip(self.states[-1].given, given, strict=False)
        return sum(takewhile(bool, (one.same(other) for one, other in answered)))


class SliceFollowing:
    """Follows an object with any model of slices.

    The first interaction on the object starts it. A box or a segmentation that covers a range of slices bounds it;
    otherwise it is followed until it ends. Every other interaction corrects the answer so far, on whatever slices it
    lies: see ``following.Follower``. A further interaction costs only the slices that it changes.

    A slice that the user has confirmed is a ``Mask`` of that slice: the object is exactly that there, and no walk
    changes it.

    Args:
        predictor: the model of slices.
        rule: how a slice's answer travels through the volume; by default with what the network's spec says.
    """

    def __init__(self, predictor: SlicePredictor, *, rule: PropagationRule | None = None) -> None:
        self.predictor = predictor
        self.rule = rule or PropagationRule(propagated=predictor.network.spec.propagated)

    @property
    def identity(self) -> str:
        """As ``VolumeModel``."""
        return f"{type(self).__name__} {self.predictor.computation} {self.predictor.contract} {self.rule}"

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
        limits: tuple[int, int] | None = None,
    ) -> VolumePrediction:
        """As ``VolumeModel``."""
        timer, frame = Timer(), state.frame(axis)
        before: _Steps | None = None if previous is None else previous.memory
        if before is not None and (before.axis, before.limits) != (axis, limits):
            before = None

        earlier = () if before is None else before.states[-1].given
        sliced = [_sliced(one, state, frame, timer, earlier) for one in prompts.interactions]
        given = started_first(_limited(sliced, limits, prompts.name))
        teller = Teller(progress, _most_slices(given, limits or (0, frame.depth - 1)))

        def ask(index: int, prompt: SlicePrompt) -> SliceMask:
            teller.slice(index)
            return state.ask(frame, index, prompt, timer, honoured=False)

        picture = partial(frame.extract, state.volume.array)
        follower = Follower(
            ask,
            given[0],
            depth=frame.depth,
            rule=self.rule,
            picture=picture,
            limits=limits,
            distances=self.rule.distances(frame, state.volume),
        )
        begin = partial(self._begin, follower, given[0], state, frame, ask, teller)
        correct = partial(self._correct, follower, state, frame, ask, teller)
        states = _followed(begin, correct, given, before)
        found = states[len(given) - 1]
        return VolumePrediction(state.segmentation(found.answers, frame, timer), _Steps(axis, limits, states))

    def _begin(
        self,
        follower: Follower,
        start: SlicedInteraction,
        state: VolumeSlices,
        frame: SliceFrame,
        ask: Ask,
        teller: Teller,
    ) -> Followed:
        """The object as its start alone shows it."""
        return follower.begin()

    def _correct(
        self,
        follower: Follower,
        state: VolumeSlices,
        frame: SliceFrame,
        ask: Ask,
        teller: Teller,
        before: Followed,
        interaction: SlicedInteraction,
    ) -> Followed:
        """The object after one more interaction."""
        return follower.correct(before, interaction)


def _followed(
    begin: Callable[[], Followed],
    correct: Callable[[Followed, SlicedInteraction], Followed],
    given: Sequence[SlicedInteraction],
    before: _Steps | None,
) -> tuple[Followed, ...]:
    """The object after its start and after each interaction; those answered before are not answered again."""
    known = 0 if before is None else before.known(given)
    if before is not None and known == len(given):  # taken back: what came after them may be given again
        return before.states
    states = list(before.states[:known]) if before is not None and known else [begin()]
    for interaction in given[len(states) :]:
        states.append(correct(states[-1], interaction))
    return tuple(states)


def _most_slices(given: Sequence[SlicedInteraction], limits: tuple[int, int]) -> int:
    """How many slices an object may have to be asked on: all within the limits, or those of what bounds its start.

    What was given later and lies on the object may add to these, see ``Walk.reach``.
    """
    first, last = reach_of(given) if given[0].thick else limits
    return min(last, limits[1]) - max(first, limits[0]) + 1


def _limited(
    given: Sequence[SlicedInteraction], limits: tuple[int, int] | None, name: str
) -> Sequence[SlicedInteraction]:
    """What lies on the slices that an object may be followed to.

    Raises:
        PromptError: nothing on the object does.
    """
    if limits is None:
        return given
    inside = [one.within(limits) for one in given]
    kept = [one for one in inside if one.slices]
    if not any(one.positive for one in kept):
        ends = [one.ends for one in given if one.positive]
        raise PromptError(
            f"{name!r} may lie on slices {limits[0]} to {limits[1]}, but its prompts lie on slices {min(ends)[0]} to "
            f"{max(last for _, last in ends)}; widen the limits or prompt the object between them"
        )
    if any(len(one.slices) < len(whole.slices) for one, whole in zip(inside, given, strict=True)):
        _log.warning("what was drawn for %r outside of slices %d to %d is left out", name, *limits)
    return kept


def _sliced(
    interaction: object, state: VolumeSlices, frame: SliceFrame, timer: Timer, earlier: Sequence[SlicedInteraction]
) -> SlicedInteraction:
    """An interaction as the slices of the walk see it.

    A box that is flat on another plane is answered there, and the slices that cross the answer see where they do.
    """
    seen = SlicedInteraction.of(interaction, frame)
    flat = _flat_axis(interaction, seen, frame)
    if flat is None:
        return seen
    if (known := next((one for one in earlier if one.interaction.same(interaction)), None)) is not None:
        return known
    own = state.frame(flat)
    ((index, prompt),) = SlicedInteraction.of(interaction, own).slices.items()
    mask = state.ask(own, index, SlicePrompt(interactions=prompt), timer).mask
    if not mask.any():
        return seen
    rows, columns = mask.nonzero()
    voxels = own.to_voxels([*zip(columns, rows, strict=True)], index)
    crossings = crossings_of_area(voxels, frame, True, share=_SURE)
    return SlicedInteraction(interaction, {place: tuple(lines) for place, lines in crossings.items()})


_SURE = 0.5  # the middle share of a crossing: the edge of an answer on another plane may be wrong


def _flat_axis(interaction: object, seen: SlicedInteraction, frame: SliceFrame) -> int | None:
    """The other axis that a box around the object is one voxel thick along; None of anything else."""
    if not isinstance(interaction, Box) or not interaction.positive or not seen.thick:
        return None
    for axis in (frame.row_axis, frame.col_axis):
        low, high = interaction.corners[:, axis]
        if frame.shape[axis] > 1 and abs(high - low) < 1:
            return axis
    return None
