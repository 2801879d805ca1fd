"""Prompts of a slice in, masks of the slice out: the network behind its contract and its embedding store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bundle.inference.store import EmbeddingStore, network_identity
from bundle.networks.promptable_sam import PromptableSam, PromptBatch
from bundle.transforms.contract import Contract, Intensity
from bundle.transforms.placement import Placement


def _no_points() -> np.ndarray:
    return np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class SlicePrompt:
    """The prompts of one object on one slice, in pixels of the slice.

    Attributes:
        points: (P, 2) float (x, y).
        point_labels: (P,) int, 1 on the object, 0 off it.
        box: (4,) float (x0, y0, x1, y1), or None.
        logits: (4g, 4g) low-resolution logits of an earlier answer, or None.
    """

    points: np.ndarray = field(default_factory=_no_points)
    point_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    box: np.ndarray | None = None
    logits: Tensor | None = None

    @property
    def is_single_point(self) -> bool:
        """One point and nothing else."""
        return len(self.points) == 1 and self.box is None and self.logits is None


@dataclass(frozen=True, eq=False)
class SliceMask:
    """The answer for one object on one slice.

    Attributes:
        mask: (H, W) bool.
        logits: (4g, 4g) low-resolution logits, to be handed back as a mask prompt.
        iou: the network's own estimate of the mask's IoU.
    """

    mask: np.ndarray
    logits: Tensor
    iou: float


@dataclass(frozen=True, eq=False)
class EmbeddedSlice:
    """A slice that went through the encoder: its embedding (1, 256, g, g) and where it lies in the square."""

    embedding: Tensor
    placement: Placement
    computed: bool


class SlicePredictor:
    """A network with its contract.

    Args:
        network: in eval mode.
        contract: of the network's family.
        store: where embeddings are kept.
        device: where the network runs.
    """

    def __init__(
        self, network: PromptableSam, contract: Contract, *, store: EmbeddingStore, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.network, self.contract, self.store = network.to(self.device).eval(), contract, store
        self.identity = network_identity(network)

    def embed(
        self, picture: np.ndarray, intensity: Intensity, pixel_spacing: tuple[float, float] = (1.0, 1.0)
    ) -> EmbeddedSlice:
        """Encode a slice, or find its embedding.

        Args:
            picture: (H, W) intensities, or (H, W, 3) colour.
            intensity: the contract's views of its volume.
            pixel_spacing: (dy, dx) in mm.
        """
        placement = self.contract.placement(*picture.shape[:2], pixel_spacing)

        def encode() -> Tensor:
            image = self.contract.to_input(picture, intensity, placement)
            with torch.inference_mode():
                return self.network.encode(image[None].to(self.device)).float().cpu()

        embedding, computed = self.store.get(self._key(picture, intensity, placement), encode)
        return EmbeddedSlice(embedding, placement, computed)

    def predict(self, embedded: EmbeddedSlice, prompts: Sequence[SlicePrompt]) -> list[SliceMask]:
        """Answer the prompts of several objects of one slice, those alike in one batch.

        SAM answers an ambiguous prompt (one point) with three candidates, of which the one of highest predicted IoU is
        taken; any other prompt with its single mask.
        """
        answers: list[SliceMask | None] = [None] * len(prompts)
        for ambiguous in (True, False):
            positions = [i for i, prompt in enumerate(prompts) if prompt.is_single_point is ambiguous]
            if positions:
                found = self._decode(embedded, [prompts[i] for i in positions])
                for position, answer in zip(positions, found, strict=True):
                    answers[position] = answer
        return [answer for answer in answers if answer is not None]

    def _decode(self, embedded: EmbeddedSlice, prompts: Sequence[SlicePrompt]) -> list[SliceMask]:
        batch = self._batch(prompts, embedded.placement)
        with torch.inference_mode():
            prediction = self.network.decode(embedded.embedding.to(self.device), batch, multimask=batch.ambiguous)
            logits, iou = prediction.best()
            masks = (embedded.placement.logits_to_slice(logits.float())[:, 0] > 0).cpu().numpy()
        logits = logits[:, 0].float().cpu()
        return [SliceMask(m, lo, float(q)) for m, lo, q in zip(masks, logits, iou, strict=True)]

    def _batch(self, prompts: Sequence[SlicePrompt], placement: Placement) -> PromptBatch:
        count, longest = len(prompts), max(len(prompt.points) for prompt in prompts)
        points = np.zeros((count, longest, 2), dtype=np.float32)
        labels = np.full((count, longest), -1)
        boxes = np.full((count, 4), np.nan, dtype=np.float32)
        side = 4 * self.network.grid_size
        masks = torch.full((count, 1, side, side), torch.nan)
        for row, prompt in enumerate(prompts):
            points[row, : len(prompt.points)] = placement.to_square(prompt.points)
            labels[row, : len(prompt.points)] = prompt.point_labels
            if prompt.box is not None:
                boxes[row] = placement.box_to_square(prompt.box)
            if prompt.logits is not None:
                masks[row, 0] = prompt.logits
        has_mask = any(prompt.logits is not None for prompt in prompts)
        has_box = any(prompt.box is not None for prompt in prompts)
        return PromptBatch(
            points=torch.from_numpy(points).to(self.device) if longest else None,
            point_labels=torch.from_numpy(labels).to(self.device) if longest else None,
            boxes=torch.from_numpy(boxes).to(self.device) if has_box else None,
            masks=masks.to(self.device) if has_mask else None,
            image_index=torch.zeros(count, dtype=torch.long, device=self.device),
        )

    def _key(self, picture: np.ndarray, intensity: Intensity, placement: Placement) -> str:
        digest = hashlib.sha256(f"{self.identity} {self.contract} {intensity} {placement} {picture.dtype}".encode())
        digest.update(np.ascontiguousarray(picture))
        return digest.hexdigest()
