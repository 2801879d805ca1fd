"""The prompts of a batch of objects as a network takes them: tensors in pixels of the model square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bundle.prompts.slice_prompts import SliceMask, SlicePrompt
from bundle.transforms.placement import Placement

# Codes of the prompt tokens, as segment-anything's ONNX model numbers them.
PADDING, BACKGROUND, FOREGROUND, BOX_FIRST_CORNER, BOX_SECOND_CORNER = -1, 0, 1, 2, 3


@dataclass
class PromptBatch:
    """The prompts of N objects, in pixels of the model square.

    Attributes:
        points: (N, P, 2) float, (x, y); None when no object has points.
        point_labels: (N, P), 1 foreground, 0 background, -1 padding (an object with fewer points than P).
        boxes: (N, 4) float, (x0, y0, x1, y1); a row with NaN is an object without a box; None when no object has one.
        masks: (N, 1, 4g, 4g) logits; an object whose mask holds NaN has none; None when no object has one.
        image_index: (N,) integer, which image of the batch each object lies in; None when there is one image.
    """

    points: Tensor | None = None
    point_labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None
    image_index: Tensor | None = None

    def __len__(self) -> int:
        """The number of objects; 1 when nothing is given, which asks for the masks of one image without a prompt."""
        return int(self.count)

    @property
    def count(self) -> int:
        """``len(self)``; while a network is traced it stays a variable of the graph, where ``len`` is a constant."""
        given = (self.points, self.boxes, self.masks, self.image_index)
        return next((field.shape[0] for field in given if field is not None), 1)

    @property
    def ambiguous(self) -> bool:
        """Whether the prompts leave open which object is meant: one point and nothing else (SAM, section 3)."""
        return self.points is not None and self.points.shape[1] == 1 and self.boxes is None and self.masks is None

    @property
    def mixed(self) -> bool:
        """Whether the objects differ in what they are asked with: in the number of points, a box or a mask."""
        if len(self) < 2:
            return False
        points = None if self.point_labels is None else (self.point_labels != PADDING).sum(dim=1)
        lacking = (field.isnan().flatten(1).any(dim=1) for field in (self.boxes, self.masks) if field is not None)
        return any(bool((of_object != of_object[0]).any()) for of_object in (points, *lacking) if of_object is not None)

    def validate(self, mask_size: int) -> None:
        """Raise ValueError naming the field whose shape does not fit the others.

        Args:
            mask_size: 4g, the side of a mask prompt.
        """
        n = len(self)
        if (self.points is None) != (self.point_labels is None):
            raise ValueError("points and point_labels come together, got only one of them; give both or neither")
        count = "P" if self.points is None or self.points.ndim != 3 else self.points.shape[1]
        expected = {
            "points": (n, count, 2),
            "point_labels": (n, count),
            "boxes": (n, 4),
            "masks": (n, 1, mask_size, mask_size),
            "image_index": (n,),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"{name} must have shape {shape} for {n} objects, got {tuple(value.shape)}")

    def tokens(self) -> tuple[Tensor, Tensor] | None:
        """Points, then box corners, as tokens: coordinates (N, T, 2) and codes (N, T); None without either."""
        coords, codes = [], []
        if self.points is not None and self.point_labels is not None:
            coords.append(self.points)
            codes.append(self.point_labels)
        if self.boxes is not None:
            missing = self.boxes.isnan().any(dim=1, keepdim=True)
            corners = self.boxes.new_tensor([BOX_FIRST_CORNER, BOX_SECOND_CORNER]).expand(self.count, -1)
            coords.append(torch.where(missing, 0.0, self.boxes).view(-1, 2, 2))
            codes.append(torch.where(missing, float(PADDING), corners))
        elif self.points is not None:
            # SAM was trained with one padding token beside points that come without a box.
            coords.append(self.points.new_zeros(self.count, 1, 2))
            codes.append(self.points.new_full((self.count, 1), PADDING))
        return (torch.cat(coords, dim=1), torch.cat(codes, dim=1)) if coords else None


def batch_of(
    prompts: Sequence[SlicePrompt], placement: Placement, *, mask_size: int, device: torch.device | str = "cpu"
) -> PromptBatch:
    """The prompts of objects on one slice as a network takes them: the one way from a slice to a batch.

    Args:
        prompts: of each object, in what the network understands (``translation.translated``): points, a box, a mask.
        placement: of the slice, or of a window of it, in the model square.
        mask_size: side of a mask prompt in pixels.
        device: of the tensors.
    """
    points = [_points_in_sight(prompt, placement) for prompt in prompts]
    most = max(len(labels) for _, labels in points)
    xy, labels = np.zeros((len(prompts), most, 2)), np.full((len(prompts), most), PADDING)
    for row, (of_object, its_labels) in enumerate(points):
        xy[row, : len(its_labels)], labels[row, : len(its_labels)] = of_object, its_labels
    boxes = [np.full(4, np.nan) if one.box is None else placement.box_to_square(one.box) for one in prompts]
    masks = [None if one.previous is None else mask_prompt(one.previous, placement, mask_size) for one in prompts]
    lacking = torch.full((1, 1, mask_size, mask_size), torch.nan)
    return PromptBatch(
        points=torch.as_tensor(xy, dtype=torch.float32, device=device) if most else None,
        point_labels=torch.as_tensor(labels, dtype=torch.long, device=device) if most else None,
        boxes=None
        if all(one.box is None for one in prompts)
        else torch.as_tensor(np.stack(boxes), dtype=torch.float32, device=device),
        masks=None
        if all(mask is None for mask in masks)
        else torch.cat([lacking if mask is None else mask for mask in masks]).to(device),
    )


def mask_prompt(previous: SliceMask, placement: Placement, size: int) -> Tensor:
    """(1, 1, size, size) logits of an earlier answer, over the square that is looked at now."""
    if previous.logits is not None and previous.placement in (None, placement):
        return previous.logits[None, None]
    return placement.logits_to_square(previous.slice_logits(), size)


def _points_in_sight(prompt: SlicePrompt, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 2) in the square and their labels. A point off the object that lies outside of the window says
    nothing about what is seen there; points on the object widen the window."""
    xy, labels = placement.to_square(prompt.points), np.asarray(prompt.point_labels)
    seen = (labels == 1) | ((xy > -1) & (xy < placement.size)).all(axis=1)
    return xy[seen], labels[seen]
