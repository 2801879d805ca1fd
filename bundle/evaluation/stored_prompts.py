"""Prompts of slices and volumes alike: adding points to one, and how they are written into records and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from bundle.interactive.slice_model import SlicePrompt
from bundle.prompts.prompts import ObjectPrompts

Prompt = SlicePrompt | ObjectPrompts
AnyPrompt = TypeVar("AnyPrompt", SlicePrompt, ObjectPrompts)


def with_points(prompt: AnyPrompt, points: Sequence[Sequence[float]], labels: Sequence[int]) -> AnyPrompt:
    """The same prompt, of a slice or a volume, with more points; points of label -1 (padding) are left out."""
    labels = np.asarray(labels, dtype=int)
    real = labels >= 0
    return prompt.with_points(np.asarray(points, dtype=float)[real], labels[real]) if real.any() else prompt


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """Points, point labels and box as plain lists; the mask prompt is the model's own and is not stored."""
    return {
        "points": prompt.points.tolist(),
        "point_labels": prompt.point_labels.tolist(),
        "box": None if prompt.box is None else prompt.box.tolist(),
    }


def prompt_from_json(values: Mapping[str, Any]) -> Prompt:
    """The prompt that `prompt_to_json` wrote: of a volume where its points or the corners of its box have 3 indices."""
    box = None if values["box"] is None else np.asarray(values["box"])
    points = np.asarray(values["points"], dtype=float)
    in_volume = box.ndim == 2 if box is not None else points.shape[-1] == 3
    return with_points((ObjectPrompts if in_volume else SlicePrompt)(box=box), values["points"], values["point_labels"])
