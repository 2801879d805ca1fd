"""What the slices of a volume see of the prompts of an object: the one way from a volume to its slices."""

from __future__ import annotations

import numpy as np

from bundle.prompts.interactions import Box, Interaction, Lasso, Mask, Point, Scribble
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.slice_prompts import SliceInteraction, SlicePrompt
from bundle.transforms.frames import SliceFrame


def prompts_on_slices(prompts: ObjectPrompts, frame: SliceFrame) -> dict[int, SlicePrompt]:
    """What each slice sees of an object's interactions, in their order, on whatever plane they were drawn.

    Args:
        prompts: valid for the frame's volume.
        frame: of the slices.

    Returns:
        Slice index -> prompt in pixels of the slice, for every slice that sees anything.
    """
    found: dict[int, list[SliceInteraction]] = {}
    for interaction in prompts.interactions:
        for index, seen in interaction.on_slices(frame).items():
            found.setdefault(index, []).extend(seen)
    return {index: SlicePrompt(interactions=found[index]) for index in sorted(found)}


def prompt_on_slice(prompts: ObjectPrompts, frame: SliceFrame, index: int) -> SlicePrompt:
    """What one slice sees; a prompt without interactions where it sees nothing."""
    return prompts_on_slices(prompts, frame).get(index, SlicePrompt())


def prompts_of_slices(prompts: ObjectPrompts, frame: SliceFrame) -> dict[int, SlicePrompt]:
    """What each slice is asked that a prompt of slices is about: those that something says the object is on.

    A box of several slices does not say on which of them the object is asked for: it goes along to those of its slices
    that any other interaction lies on. A slice that the object is only kept off is left out: there is nothing to
    segment on it.
    """
    thick, others = [], []
    for one in prompts.interactions:
        slices = one.on_slices(frame)
        (thick if isinstance(one, Box) and one.positive and len(slices) > 1 else others).append(slices)
    wanted = {
        index
        for slices in others
        for index, seen in slices.items()
        if seen[0].positive or any(index in box for box in thick)
    }
    found = prompts_on_slices(prompts, frame)
    return {index: found[index] for index in sorted(wanted)}


def flattened(interaction: Interaction, frame: SliceFrame, index: int) -> list[Interaction]:
    """What one slice sees of an interaction, as interactions of that slice alone; empty where it sees nothing."""
    return [_back(one, frame, index) for one in interaction.on_slices(frame).get(index, ())]


def _back(one: SliceInteraction, frame: SliceFrame, index: int) -> Interaction:
    where = frame.to_voxels(one.xy, index)
    if one.kind == "point":
        return Point(where[0], positive=one.positive)
    if one.kind != "mask":
        made = {"box": Box, "scribble": Scribble, "lasso": Lasso}[one.kind]
        return made(where, positive=one.positive)
    voxels = np.zeros(frame.shape, dtype=bool)
    frame.insert(voxels, index, one.pixels(frame.height, frame.width))
    return Mask(voxels, positive=one.positive)


def slice_range(prompts: ObjectPrompts, frame: SliceFrame) -> tuple[int, int]:
    """First and last slice of the box, or of all interactions where there is no box."""
    chosen = [box for box in prompts.of(Box) if box.positive][:1] or prompts.interactions
    indices = [index for one in chosen for index in one.on_slices(frame)]
    return min(indices), max(indices)
