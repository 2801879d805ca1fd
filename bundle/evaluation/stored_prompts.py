"""Prompts of slices and volumes alike: adding points to one, and how they are written into records and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from bundle.prompts.interaction_json import interaction_from_json
from bundle.prompts.interactions import Interaction
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.slice_prompts import SliceInteraction, SlicePrompt

Prompt = SlicePrompt | ObjectPrompts
AnyPrompt = TypeVar("AnyPrompt", SlicePrompt, ObjectPrompts)


def with_points(prompt: AnyPrompt, points: Sequence[Sequence[float]], labels: Sequence[int]) -> AnyPrompt:
    """The same prompt, of a slice or a volume, with more points; points of label -1 (padding) are left out."""
    labels = np.asarray(labels, dtype=int)
    real = labels >= 0
    return prompt.with_points(np.asarray(points, dtype=float)[real], labels[real]) if real.any() else prompt


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """Points, point labels and box as plain lists, other interactions as they are written in JSON, where there are any.

    The mask prompt is the model's own and is not stored.
    """
    others = [_to_json(one) for one in prompt.interactions if one.kind not in ("point", "box")]
    return {
        "points": prompt.points.tolist(),
        "point_labels": prompt.point_labels.tolist(),
        "box": None if prompt.box is None else prompt.box.tolist(),
        **({"interactions": others} if others else {}),
    }


def prompt_from_json(values: Mapping[str, Any]) -> Prompt:
    """The prompt that `prompt_to_json` wrote: of a volume where its positions have 3 indices, else of a slice.

    What is no point comes first, as in the prompts of a protocol.
    """
    others = values.get("interactions", [])
    box = None if values["box"] is None else np.asarray(values["box"])
    if _in_volume(values):
        started = ObjectPrompts([interaction_from_json(one, "a stored interaction") for one in others], box=box)
    else:
        started = SlicePrompt(box=box, interactions=[_of_slice(one) for one in others])
    return with_points(started, values["points"], values["point_labels"])


def _in_volume(values: Mapping[str, Any]) -> bool:
    if values.get("interactions"):
        return "xy" not in values["interactions"][0]
    return len(values["box"]) == 2 if values["box"] is not None else np.asarray(values["points"]).shape[-1] == 3


def _to_json(one: Interaction | SliceInteraction) -> dict[str, Any]:
    if isinstance(one, SliceInteraction):
        return {"kind": one.kind, "positive": one.positive, "xy": one.xy.tolist()}
    return one.to_json()


def _of_slice(values: Mapping[str, Any]) -> SliceInteraction:
    return SliceInteraction(values["kind"], np.asarray(values["xy"], dtype=float), values["positive"])
