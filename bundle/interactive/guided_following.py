"""Following slice by slice and a network of volumes under one roof, as a volume model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from bundle.data.volume import Volume
from bundle.interactive.candidates import (
    FOLLOWING,
    KNOWN,
    NETWORK,
    REFINED,
    TOGETHER,
    Candidate,
    Evidence,
    chosen,
    corrects,
    predicted_iou,
    share_of_network,
    together,
)
from bundle.interactive.cube_answers import CubesAnswer
from bundle.interactive.cube_network import CubeNetwork, is_whole
from bundle.interactive.cube_predictor import VolumeView
from bundle.interactive.following import Followed, Follower
from bundle.interactive.parts import PartSlices
from bundle.interactive.propagation import Ask, PropagationRule, within
from bundle.interactive.refinement import refined
from bundle.interactive.seen_object import (
    SeenObject,
    changed_near,
    changed_there,
    outlined,
    within_limit,
)
from bundle.interactive.slice_following import SliceFollowing
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt
from bundle.interactive.sliced import SlicedInteraction, limit_of
from bundle.interactive.volume_model import Look, Teller, not_told
from bundle.interactive.volume_slices import VolumeSlices
from bundle.prompts.interactions import Mask
from bundle.transforms.frames import SliceFrame

_ANSWERED = ("point", "scribble")  # kinds of corrections that the network of volumes was trained with


class SlicesAndCubes(VolumeSlices):
    """The slices of a volume before a slice model, and its cubes before a network of volumes.

    Args:
        volume: the image.
        predictor: the model of slices.
        cubes: the network of volumes.
    """

    def __init__(self, volume: Volume, predictor: SlicePredictor, cubes: CubeNetwork) -> None:
        super().__init__(volume, predictor)
        self._network = cubes

    @cached_property
    def cubes(self) -> VolumeView:
        """The volume as the network of volumes needs it."""
        return self._network.start(self.volume)


class GuidedFollowing(SliceFollowing):
    """Begins an object by following it, or as a network of volumes sees it, and corrects it by either.

    What is compact and has weak borders, as a lesion, a network that sees all three planes at once tells better from
    its surroundings; a long object, and one with clear outlines, is followed better. Both are asked, the slice of the
    prompt first, and ``candidates.chosen`` says which of the answers is taken, or the mean of both.

    Clicks and scribbles are answered by the network of volumes where ``candidates.corrects`` says so, whoever found the
    object: of what it would change, the pieces that they lie in are changed, and not one voxel beside them. One that it
    ignores the model of slices answers, on the slices that it lies on alone. Every other interaction is followed.
    Whoever answers, what is said to lie off the object adds nothing to it, and ends it where it leaves nothing on its
    slice.

    Args:
        predictor: the model of slices.
        cubes: the network of volumes.
        rule: of the following.
    """

    def __init__(self, predictor: SlicePredictor, cubes: CubeNetwork, *, rule: PropagationRule | None = None) -> None:
        super().__init__(predictor, rule=rule)
        self.cubes = cubes

    @property
    def identity(self) -> str:
        """As ``VolumeModel``."""
        return f"{super().identity} {self.cubes.identity}"

    def start(self, volume: Volume) -> SlicesAndCubes:
        """See ``VolumeModel``."""
        return SlicesAndCubes(volume, self.predictor, self.cubes)

    def _begin(
        self,
        follower: Follower,
        start: SlicedInteraction,
        state: SlicesAndCubes,
        frame: SliceFrame,
        ask: Ask,
        teller: Teller,
    ) -> Followed:
        begun = time.perf_counter()
        followed = follower.begin()
        if is_whole(start.interaction):
            return self._seen(followed, state, frame)
        seconds = time.perf_counter() - begun
        rough = self.looked(followed, start, state, frame, look=teller.cube)
        if rough.iou < KNOWN:  # it would not be chosen, so nobody waits for its outlines
            return self._seen(followed, state, frame)
        looked = time.perf_counter() - begun - seconds
        found, evidence = self.candidates(
            followed, rough, start, state, frame, ask, limits=follower.limits, seconds=(seconds, looked)
        )
        way = chosen(evidence)
        taken = _as_followed(followed, found[way])
        if way in (FOLLOWING, TOGETHER):
            return self._seen(taken, state, frame)
        return SeenObject(taken.answers, taken.origin, taken.given, rough)

    def _seen(self, followed: Followed, state: SlicesAndCubes, frame: SliceFrame) -> Followed:
        """An object that was followed, as the network of volumes is told of it when it is corrected."""
        masks = {index: one.mask for index, one in followed.answers.items()}
        here = PartSlices.holding(frame, masks)
        if here is None:
            return followed
        iou, mask = predicted_iou(followed.answers), here.voxels(here.cut(masks))
        seen = self.cubes.taken_over(state.volume, mask, here.part, axis=frame.slice_axis, iou=iou)
        return SeenObject(followed.answers, followed.origin, followed.given, seen)

    def _correct(
        self,
        follower: Follower,
        state: SlicesAndCubes,
        frame: SliceFrame,
        ask: Ask,
        teller: Teller,
        before: Followed,
        interaction: SlicedInteraction,
    ) -> Followed:
        if not isinstance(before, SeenObject):  # nothing was found so far
            return self._seen(follower.correct(before, interaction), state, frame)
        found = self._seen_anew(follower, state, frame, ask, teller, before, interaction)
        if found is not None:
            return found.with_answers(follower.ended(before, found, interaction), found.given, frame)
        followed = follower.correct(before, interaction)
        return replace(before.with_answers(followed.answers, followed.given, frame), origin=followed.origin)

    def _seen_anew(
        self,
        follower: Follower,
        state: SlicesAndCubes,
        frame: SliceFrame,
        ask: Ask,
        teller: Teller,
        before: SeenObject,
        interaction: SlicedInteraction,
    ) -> SeenObject | None:
        """The object as the network of volumes corrects it; None where it is not the one that answers."""
        if interaction.kind not in _ANSWERED:
            return None
        given = [one.interaction for one in (*before.given, interaction)]
        now = self.cubes.correct(state.cubes, before.seen, given, axis=frame.slice_axis, look=teller.cube)
        if not corrects(now.iou, before.sure()):
            return None
        near = changed_near(before, now, interaction, frame, follower)
        if near is None:
            return changed_there(before, follower.correct(before, interaction), interaction, frame)
        return outlined(*near, ask, self.rule.distances(frame, state.volume), self.rule.propagated)

    def looked(
        self,
        followed: Followed,
        start: SlicedInteraction,
        state: SlicesAndCubes,
        frame: SliceFrame,
        *,
        look: Look = not_told,
    ) -> CubesAnswer:
        """What the network of volumes sees.

        In a 3D box it finds what lies in the middle of the box, which of a curved or hollow object is something else.
        Where it does not believe in that, it is asked again with the section that following began with. Nothing beside
        the box is seen of the object.

        Args:
            followed: the answer of following.
            start: the first interaction on the object.
            state: of the volume.
            frame: of the slices that it was followed along.
            look: told the slice in the middle of each cube.
        """
        rough = self.cubes.begin(state.cubes, start.interaction, axis=frame.slice_axis, look=look)
        if not start.is_3d_box:
            return rough
        box = PartSlices.holding(frame, dict.fromkeys(start.ends, within_limit([start], frame))).part
        section = followed.answers[followed.origin].mask
        if rough.iou >= KNOWN or not section.any():
            return rough.within(box)
        place = tuple(
            slice(followed.origin, followed.origin + 1) if axis == frame.slice_axis else slice(0, size)
            for axis, size in enumerate(frame.shape)
        )
        area = Mask(PartSlices(frame, place).voxels(section[None]), corner=tuple(p.start for p in place))
        again = self.cubes.begin(state.cubes, area, axis=frame.slice_axis, look=look)
        again = replace(again, looks=again.looks + rough.looks)
        return (again if again.iou >= KNOWN else rough).within(box)

    def candidates(
        self,
        followed: Followed,
        rough: CubesAnswer,
        start: SlicedInteraction,
        state: SlicesAndCubes,
        frame: SliceFrame,
        ask: Ask,
        *,
        limits: tuple[int, int] | None = None,
        seconds: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[dict[str, Candidate], Evidence]:
        """The answers to a start, that of both together to a 3D box alone, and what is known of them.

        Args:
            followed: the answer of following.
            rough: that of the network of volumes.
            start: the first interaction on the object.
            state: of the volume.
            frame: of the slices that it was followed along.
            ask: answers a prompt on a slice.
            limits: first and last slice that the object may lie on, as of following; None for all.
            seconds: that following and the network of volumes took.
        """
        begun = time.perf_counter()
        here, (first, last) = PartSlices(frame, rough.part), limits or (0, frame.depth - 1)
        shown = here.pictures(here.stack(rough.mask_on(rough.part)))
        slices = {index: SliceMask(mask, iou=rough.iou) for index, mask in shown.items() if first <= index <= last}
        drawn = () if start.thick else start.slices
        outlined = refined(
            slices,
            ask,
            propagated=self.rule.propagated,
            distances=self.rule.distances(frame, state.volume),
            asked=drawn,
        )
        taken = seconds[1], seconds[1] + time.perf_counter() - begun
        found = {
            FOLLOWING: Candidate(followed.answers, seconds[0]),
            NETWORK: Candidate(_honoured(slices, start, frame), taken[0]),
            REFINED: Candidate(_honoured(outlined, start, frame), taken[1]),
        }
        if start.is_3d_box:
            share = share_of_network(followed.answers, start.ends, (first, last))
            both = together(followed.answers, _probabilities(rough, here), share)
            found[TOGETHER] = Candidate(_honoured(both, start, frame), sum(seconds))
        evidence = Evidence(
            agreement=found[FOLLOWING].overlap(found[NETWORK]),
            sure=tuple(predicted_iou(found[way].answers) for way in (FOLLOWING, NETWORK, REFINED)),
            detail=rough.cubes[0].cell / min(frame.pixel_spacing(state.volume.spacing)),
            outgrown=rough.touched or len(rough.cubes) > 1,
            boxed=start.is_3d_box,
        )
        return found, evidence


def _probabilities(seen: CubesAnswer, here: PartSlices) -> dict[int, np.ndarray]:
    """Slice index -> (H, W) float32, of an object that the network of volumes sees on a part."""
    logits = torch.from_numpy(seen.logits_on(here.part)).float()
    return here.pictures(here.stack(torch.sigmoid(logits).numpy()))


def _honoured(answers: Mapping[int, SliceMask], start: SlicedInteraction, frame: SliceFrame) -> dict[int, SliceMask]:
    """Answers in which the start holds: what was drawn lies in them, and nothing beside a 3D box."""
    if start.is_3d_box:
        limit = limit_of([start])
        return {index: within(answer, limit) for index, answer in answers.items() if index in start.slices}
    # Where the network shows nothing it is sure of nothing, whatever was drawn there.
    found, nothing = dict(answers), SliceMask(np.zeros((frame.height, frame.width), dtype=bool), iou=0.0)
    for index, seen in start.slices.items():
        prompt = SlicePrompt(interactions=seen)
        found[index] = prompt.given(frame.height, frame.width) or prompt.honoured(answers.get(index, nothing))
    return found


def _as_followed(followed: Followed, found: Candidate) -> Followed:
    """The object with other answers, as if it had been followed; its origin keeps an answer."""
    answers = {index: one for index, one in found.answers.items() if one.mask.any()}
    answers.setdefault(followed.origin, followed.answers[followed.origin])
    return replace(followed, answers=answers)
