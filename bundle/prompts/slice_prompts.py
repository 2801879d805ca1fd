"""The prompts of one object on one slice, in pixels of the slice, and what they are answered with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bundle.prompts.drawing import draw_area, draw_line
from bundle.prompts.simulation import tight_box
from bundle.transforms.frames import nearest_index
from bundle.transforms.placement import Placement

CERTAIN = 8.0  # logit of a mask that somebody gave, tanh(8 / 4) = 0.96 to a network that sees it so
_CIRCLED = 0.5  # of a lasso's area: where the network leaves less, the line counts as it was drawn


def _no_pixels() -> np.ndarray:
    return np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class SliceInteraction:
    """What one slice sees of an interaction.

    Attributes:
        kind: "point", "box", "scribble", "lasso" or "mask".
        xy: (N, 2) float pixels (x, y): the point, two corners of the box (inclusive, lowest first), the line of the
            scribble or lasso, the upper left pixel of a mask.
        positive: whether it lies on the object.
        area: of a mask, (h, w) bool from that pixel on; otherwise None.
    """

    kind: str
    xy: np.ndarray = field(default_factory=_no_pixels)
    positive: bool = True
    area: np.ndarray | None = None

    def pixels(self, height: int, width: int) -> np.ndarray:
        """(H, W) bool: what lies under it; of a box its inside, of a lasso the area with its line."""
        if self.kind == "lasso":
            return draw_area(self.xy, height, width)
        if self.kind in ("point", "scribble"):
            return draw_line(np.clip(self.xy, 0, (width - 1, height - 1)), height, width)
        drawn = np.zeros((height, width), dtype=bool)
        if self.kind == "mask":
            x, y = self.xy[0].astype(int)
            drawn[y : y + self.area.shape[0], x : x + self.area.shape[1]] = self.area
            return drawn
        (x0, y0), (x1, y1) = nearest_index(self.xy, (width, height)).clip(0)
        drawn[y0 : y1 + 1, x0 : x1 + 1] = True
        return drawn

    def corners(self) -> np.ndarray:
        """(2, 2) pixels (x, y), the lowest and the highest that it has."""
        if self.kind == "mask":
            return self.xy + tight_box(self.area).reshape(2, 2)
        return np.stack([self.xy.min(axis=0), self.xy.max(axis=0)])

    @property
    def encloses(self) -> bool:
        """Whether it has an area rather than a line."""
        return self.kind in ("box", "lasso", "mask")

    def same(self, other: SliceInteraction) -> bool:
        """Whether both say the same."""
        alike = (self.kind, self.positive) == (other.kind, other.positive) and np.array_equal(self.xy, other.xy)
        return alike and (self.area is other.area or np.array_equal(self.area, other.area))


@dataclass(frozen=True, eq=False)
class SliceMask:
    """The answer for one object on one slice.

    Attributes:
        mask: (H, W) bool.
        logits: (4g, 4g) low-resolution logits over the square that the network saw; None of a mask that was given.
        iou: the network's own estimate of the mask's IoU; 1 of a mask that was given.
        asked: whether the network, or the user, was asked on this slice; else it shows the shape of its neighbours, and
            ``iou`` is the lower one of theirs.
        placement: where the slice lay in that square.
        encoded: how many times the encoder had to run for it.
        encode_seconds: what that took.
    """

    mask: np.ndarray
    logits: Tensor | None = None
    iou: float = 1.0
    placement: Placement | None = None
    encoded: int = 0
    encode_seconds: float = 0.0
    asked: bool = True

    def slice_logits(self) -> Tensor:
        """(1, 1, H, W) logits on the slice, memory of their own."""
        if self.logits is None or self.placement is None:
            return torch.where(torch.from_numpy(self.mask), CERTAIN, -CERTAIN)[None, None]
        return self.placement.logits_to_slice(self.logits[None, None]).clone()

    def probability(self) -> np.ndarray:
        """(H, W) float32, that a pixel is the object's: over one half in the mask, and at most that beside it."""
        found = torch.sigmoid(self.slice_logits()[0, 0]).numpy()
        half = np.float32(0.5)
        return np.where(self.mask, np.maximum(found, np.nextafter(half, np.float32(1))), np.minimum(found, half))

    def with_mask(self, mask: np.ndarray) -> SliceMask:
        """The same answer with another (H, W) mask: its logits are certain where that differs, else as before."""
        changed = mask != self.mask
        if not changed.any():
            return self
        if self.logits is None or self.placement is None:
            return replace(self, mask=mask, logits=None)
        logits = self.slice_logits()
        given = torch.where(torch.from_numpy(mask), CERTAIN, -CERTAIN)
        logits[0, 0] = torch.where(torch.from_numpy(changed), given, logits[0, 0])
        square = self.placement.logits_to_square(logits, self.logits.shape[-1])
        return replace(self, mask=mask, logits=square[0, 0])


@dataclass(frozen=True, eq=False, init=False)
class SlicePrompt:
    """The prompts of one object on one slice.

    Attributes:
        interactions: in their order.
        previous: an earlier answer, on this slice or a neighbour of the same size, as a mask prompt; or None.
    """

    interactions: tuple[SliceInteraction, ...]
    previous: SliceMask | None

    def __init__(
        self,
        points: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        previous: SliceMask | None = None,
        *,
        interactions: Iterable[SliceInteraction] = (),
    ) -> None:
        """Args:
        points: (P, 2) float (x, y), for those who have nothing but a box and points; the points come last.
        point_labels: (P,) int, 1 on the object, 0 off it.
        box: (4,) float (x0, y0, x1, y1) around the object.
        previous: as the attribute.
        interactions: in their order.
        """
        boxes = () if box is None else (SliceInteraction("box", np.reshape(np.asarray(box, dtype=float), (2, 2))),)
        clicks = () if points is None else _clicks(points, point_labels)
        object.__setattr__(self, "interactions", (*interactions, *boxes, *clicks))
        object.__setattr__(self, "previous", previous)

    @property
    def points(self) -> np.ndarray:
        """(P, 2) float (x, y) of the points, in their order."""
        return np.array([one.xy[0] for one in self.interactions if one.kind == "point"], dtype=float).reshape(-1, 2)

    @property
    def point_labels(self) -> np.ndarray:
        """(P,) int of the points, 1 on the object, 0 off it."""
        return np.array([one.positive for one in self.interactions if one.kind == "point"], dtype=int)

    @property
    def box(self) -> np.ndarray | None:
        """(4,) float (x0, y0, x1, y1), the last box around the object; None without one."""
        boxes = [one.xy for one in self.interactions if one.kind == "box" and one.positive]
        return boxes[-1].reshape(4) if boxes else None

    def with_points(self, points: np.ndarray, labels: np.ndarray) -> SlicePrompt:
        """The same prompt with more points (P, 2) behind its own."""
        return replace(self, interactions=(*self.interactions, *_clicks(points, labels)))

    def with_box(self, box: np.ndarray | None) -> SlicePrompt:
        """The same prompt with one (4,) box around the object instead of its own, or without any."""
        others = [one for one in self.interactions if one.kind != "box" or not one.positive]
        return SlicePrompt(previous=self.previous, interactions=(*SlicePrompt(box=box).interactions, *others))

    def after(self, previous: SliceMask | None) -> SlicePrompt:
        """The same prompt with an answer that it goes on from."""
        return replace(self, previous=previous)

    @property
    def on_object(self) -> bool:
        """Whether anything says that the object is on the slice."""
        return any(one.positive for one in self.interactions)

    def first_on_object(self) -> SlicePrompt:
        """The first interaction on the object alone; a prompt without any where there is none."""
        return SlicePrompt(interactions=[one for one in self.interactions if one.positive][:1])

    def continues(self, earlier: SlicePrompt) -> bool:
        """Whether it is ``earlier``, or that with more interactions behind it; whatever they go on from."""
        begins = len(earlier.interactions) <= len(self.interactions)
        return begins and all(map(SliceInteraction.same, self.interactions, earlier.interactions))

    @property
    def unanswered(self) -> tuple[SliceInteraction, ...]:
        """What the answer that it goes on from does not know: all without one, else the last interaction."""
        return self.interactions if self.previous is None else self.interactions[-1:]

    def around(self) -> np.ndarray | None:
        """(4,) box around all that the prompt says of the object: its boxes or its earlier mask, and what lies on it.

        None where nothing says how large the object is: points and scribbles alone do not.
        """
        drawn = [one for one in self.unanswered if one.positive and one.kind in ("lasso", "mask")]
        shows = self.previous is not None and self.previous.mask.any()
        if not (shows or drawn or self.box is not None):
            return None
        on_it = [one for one in self.interactions if one.positive and one.kind in ("point", "scribble")]
        corners = [one.corners() for one in (*on_it, *drawn)]
        if self.box is not None:
            corners.append(self.box.reshape(2, 2))
        elif shows:
            corners.append(tight_box(self.previous.mask).reshape(2, 2))
        corners = np.concatenate(corners)
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    def honoured(self, answer: SliceMask) -> SliceMask:
        """An answer in which every interaction holds where it lies; of two in one place the later one.

        Points and scribbles hold in their pixels. What a lasso, box or mask off the object encloses is not the object.
        A lasso around it holds as it was drawn where the network leaves less than half of it. A box around the object
        only says where to look, and a mask of it starts anew what may be corrected after it.
        """
        height, width = answer.mask.shape
        mask = answer.mask.copy()
        masks = [number for number, one in enumerate(self.interactions, start=1) if one.kind == "mask" and one.positive]
        for one in self.interactions[masks[-1] if masks else 0 :]:
            if one.positive and one.kind == "box":
                continue
            under = one.pixels(height, width)
            if one.kind == "lasso" and one.positive and np.mean(mask[under]) >= _CIRCLED:
                continue
            mask[under] = one.positive
        if np.array_equal(mask, answer.mask):
            return answer
        drawn = any(one.encloses for one in self.interactions)
        return answer.with_mask(mask) if drawn else replace(answer, mask=mask)

    def given(self, height: int, width: int) -> SliceMask | None:
        """The answer, (H, W), where the last interaction is a mask of the object, which stands as somebody drew it."""
        last = self.interactions[-1] if self.interactions else None
        if last is None or last.kind != "mask" or not last.positive:
            return None
        return SliceMask(last.pixels(height, width))


def _clicks(points: np.ndarray, labels: np.ndarray | None) -> list[SliceInteraction]:
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    labels = np.ones(len(points)) if labels is None else np.asarray(labels).reshape(-1)
    return [SliceInteraction("point", xy[None], bool(label)) for xy, label in zip(points, labels, strict=True)]
