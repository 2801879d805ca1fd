"""Prompts of a slice in, masks of the slice out: the network behind its contract and its embedding store."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from bundle.engines.cache import PreparedCache, network_identity
from bundle.networks.interface import Prepared, PromptableNetwork
from bundle.prompts.batch import PromptBatch
from bundle.prompts.simulation import tight_box
from bundle.transforms.contract import Contract, Intensity
from bundle.transforms.frames import nearest_index
from bundle.transforms.placement import Placement


def _no_points() -> np.ndarray:
    return np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class SliceView:
    """A slice as a predictor needs it.

    Attributes:
        picture: (H, W) intensities, or (H, W, 3) colour.
        intensity: the contract's views of its volume.
        pixel_spacing: (dy, dx) in mm.
    """

    picture: np.ndarray
    intensity: Intensity
    pixel_spacing: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, eq=False)
class SliceMask:
    """The answer for one object on one slice.

    Attributes:
        mask: (H, W) bool.
        logits: (4g, 4g) low-resolution logits over the square that the network saw.
        iou: the network's own estimate of the mask's IoU.
        placement: where the slice lay in that square.
        encoded: how many times the encoder had to run for it.
        encode_seconds: what that took.
    """

    mask: np.ndarray
    logits: Tensor
    iou: float
    placement: Placement | None = None
    encoded: int = 0
    encode_seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class SlicePrompt:
    """The prompts of one object on one slice, in pixels of the slice.

    Attributes:
        points: (P, 2) float (x, y).
        point_labels: (P,) int, 1 on the object, 0 off it.
        box: (4,) float (x0, y0, x1, y1), or None.
        previous: an earlier answer, on this slice or a neighbour of the same size, as a mask prompt; or None.
    """

    points: np.ndarray = field(default_factory=_no_points)
    point_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    box: np.ndarray | None = None
    previous: SliceMask | None = None

    def with_points(self, points: np.ndarray, labels: np.ndarray) -> SlicePrompt:
        """The same prompt with more points (P, 2) behind its own."""
        return replace(
            self,
            points=np.concatenate([self.points, np.reshape(points, (-1, 2))]),
            point_labels=np.concatenate([self.point_labels, labels]),
        )

    def first_point(self) -> SlicePrompt | None:
        """The first point on the object alone, where there are points and nothing else; None where there is more."""
        on_it = np.flatnonzero(np.asarray(self.point_labels) == 1)
        if self.box is not None or self.previous is not None or not len(on_it):
            return None
        chosen = on_it[:1]
        return replace(self, points=np.asarray(self.points)[chosen], point_labels=np.asarray(self.point_labels)[chosen])

    def around(self) -> np.ndarray | None:
        """(4,) box around all that the prompt says of the object: its box or its earlier mask, and points on it."""
        corners = [self.points[self.point_labels == 1]]
        if self.box is not None:
            corners.append(np.reshape(self.box, (2, 2)))
        elif self.previous is not None and self.previous.mask.any():
            corners.append(tight_box(self.previous.mask).reshape(2, 2))
        else:  # points alone do not say how large the object is
            return None
        corners = np.concatenate(corners)
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the network made of a slice, where the slice lies in its input, and what preparing it took."""

    prepared: Prepared
    placement: Placement
    computed: bool
    seconds: float


class SlicePredictor:
    """A network with its contract.

    Args:
        network: in eval mode.
        contract: of the network's family.
        store: where prepared images are kept, where the network says that it is worth it.
        device: where the network runs.
    """

    def __init__(
        self,
        network: PromptableNetwork,
        contract: Contract,
        *,
        store: PreparedCache,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network, self.contract, self.store = network.to(self.device).eval(), contract, store
        self.identity = network_identity(network)
        self.bfloat16 = network.spec.bfloat16 and computes_in_bfloat16(self.device)
        if self.bfloat16:  # the order of axes in which convolutions in bfloat16 are fastest
            self.network.to(memory_format=torch.channels_last)

    def predict(self, view: SliceView, prompt: SlicePrompt) -> SliceMask:
        """Answer the prompts of one object on a slice.

        The network answers as it was trained to (``PromptableSam.decode``): SAM an ambiguous prompt (one point) with
        three candidates, of which the one of highest predicted IoU is taken, and any other with its single mask. A
        family whose contract zooms looks at the window around the object. Points alone do not say where that is: the
        first one finds the object on the whole slice and is asked again in the window around that answer, which the
        other points then correct. What one point finds is one connected piece.
        """
        first = prompt.first_point() if self.contract.zoom is not None else None
        if first is None:
            return self._look(view, prompt, prompt.around())
        looks = [_pointed_at(self._look(view, first, None), first)]
        for points in (first, prompt) if len(prompt.points) > 1 else (first,):
            again = replace(points, previous=looks[-1] if looks[-1].mask.any() else None)
            look = self._look(view, again, again.around())
            looks.append(_pointed_at(look, first) if points is first else look)
        encoded, seconds = sum(look.encoded for look in looks), sum(look.encode_seconds for look in looks)
        return replace(looks[-1], encoded=encoded, encode_seconds=seconds)

    def _look(self, view: SliceView, prompt: SlicePrompt, around: np.ndarray | None) -> SliceMask:
        seen = self._prepare(view, around)
        batch = self._batch(prompt, seen.placement)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, iou = self.network.predict(seen.prepared.to(self.device), batch).best()
            mask = (seen.placement.logits_to_slice(logits.float())[0, 0] > 0).cpu().numpy()
        return SliceMask(
            mask,
            logits=logits[0, 0].float().cpu(),
            iou=float(iou),
            placement=seen.placement,
            encoded=int(seen.computed),
            encode_seconds=seen.seconds,
        )

    def _prepare(self, view: SliceView, around: np.ndarray | None) -> _Seen:
        """Prepare a slice, or the window around a box of it, or find what was made of it before."""
        started = time.perf_counter()
        placement = self.contract.placement(*view.picture.shape[:2], view.pixel_spacing, around=around)

        def prepare() -> Prepared:
            image = self.contract.to_input(view.picture, view.intensity, placement)
            with torch.inference_mode():
                return self.network.prepare(image[None].to(self.device)).map(Tensor.float).to("cpu")

        if not self.network.spec.keeps_prepared:
            return _Seen(prepare(), placement, computed=False, seconds=0.0)
        prepared, computed = self.store.get(self._key(view, placement), prepare)
        return _Seen(prepared, placement, computed, time.perf_counter() - started if computed else 0.0)

    def _batch(self, prompt: SlicePrompt, placement: Placement) -> PromptBatch:
        where, labels = self._points_in_sight(prompt, placement)
        points = torch.as_tensor(where, dtype=torch.float32, device=self.device)[None]
        box = None if prompt.box is None else placement.box_to_square(prompt.box)
        return PromptBatch(
            points=points if len(where) else None,
            point_labels=torch.as_tensor(labels, dtype=torch.long, device=self.device)[None] if len(where) else None,
            boxes=None if box is None else torch.as_tensor(box, dtype=torch.float32, device=self.device)[None],
            masks=None if prompt.previous is None else self._mask_prompt(prompt.previous, placement),
        )

    @staticmethod
    def _points_in_sight(prompt: SlicePrompt, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
        """Points (P, 2) in the square and their labels. A point off the object that lies outside of the window says
        nothing about what is seen there; points on the object widen the window."""
        where, labels = placement.to_square(prompt.points), np.asarray(prompt.point_labels)
        seen = (labels == 1) | ((where > -1) & (where < placement.size)).all(axis=1)
        return where[seen], labels[seen]

    def _mask_prompt(self, previous: SliceMask, placement: Placement) -> Tensor:
        """(1, 1, 4g, 4g) logits of an earlier answer, over the square that is looked at now."""
        logits = previous.logits[None, None].to(self.device)
        if previous.placement in (None, placement):
            return logits
        return placement.logits_to_square(previous.placement.logits_to_slice(logits), logits.shape[-1])

    def _key(self, view: SliceView, placement: Placement) -> str:
        about = f"{self.identity} {self.contract} {view.intensity} {placement} {view.picture.dtype}"
        digest = hashlib.sha256(about.encode())
        digest.update(np.ascontiguousarray(view.picture))
        return digest.hexdigest()


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device is a CPU with instructions for bfloat16 (avx512_bf16 or AMX); on others it would be slower."""
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _pointed_at(answer: SliceMask, prompt: SlicePrompt) -> SliceMask:
    """The connected piece of an answer that the first point lies on; the whole answer where it lies beside it."""
    _, pieces = cv2.connectedComponents(answer.mask.astype(np.uint8), connectivity=8)
    height, width = answer.mask.shape
    column, row = np.clip(nearest_index(prompt.points[0], (width, height)), 0, (width - 1, height - 1))
    piece = pieces[row, column]
    return replace(answer, mask=pieces == piece) if piece else answer
