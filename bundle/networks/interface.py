"""What every promptable network offers: prepare images once, predict masks for each prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.errors import FamilyError, PromptError
from bundle.prompts.batch import PromptBatch
from bundle.prompts.translation import SCRIBBLE_POINTS

# Which prompts are answered with SAM's candidate masks: one point alone, as in SAM, or every prompt, as in SAM-Med2D.
CANDIDATES = ("ambiguous", "always")
# What an answer on a slice can become for the next slice: the box around it, and its logits as a mask prompt.
PROPAGATED = ("box", "mask")
SAM_MASKS = 3  # SAM's candidate masks: whole, part, subpart


@dataclass(frozen=True)
class ModelSpec:
    """What a network takes and understands.

    Attributes:
        input_shape: of one image without the batch: (3, S, S), or (3, D, S, S) for a network of volumes.
        mask_size: m, the side of mask prompts and of answers, in pixels; 0 for a network without prompts.
        prompts: kinds that it understands, of "point", "box" and "mask"; empty for a network that is not asked. Other
            kinds are translated (``bundle.prompts.translation``).
        scribble_points: how many points a scribble becomes for it.
        classes: channels of an automatic network, background included; None for a network that is asked.
        keeps_prepared: whether preparing an image costs so much that its result is worth keeping. Only then is it
            stored, and counted and reported as an encoded slice.
        bfloat16: whether its answers stay as good in bfloat16, where the device computes in it.
        official: whether segment-anything's own code can hold it, parameters and all.
        candidates: one of ``CANDIDATES``: which prompts it was trained to answer with its candidate masks rather than
            with its single one. Asked otherwise, it would answer with a mask that nobody trained.
        propagated: of ``PROPAGATED``, what of its answer to a slice it is asked about the next one with: a network that
            was trained with boxes alone is shown no mask, although it would take one.
        mixes_prompts: whether objects that differ in their prompts may share a batch without changing each other's
            answers, as where prompts are drawn instead of padded.

    Raises:
        FamilyError: ``candidates`` or ``propagated`` is unknown.
    """

    input_shape: tuple[int, ...]
    mask_size: int = 0
    prompts: tuple[str, ...] = ("point", "box", "mask")
    scribble_points: int = SCRIBBLE_POINTS
    classes: int | None = None
    keeps_prepared: bool = True
    bfloat16: bool = False
    official: bool = False
    candidates: str = "ambiguous"
    propagated: tuple[str, ...] = PROPAGATED
    mixes_prompts: bool = False

    def __post_init__(self) -> None:
        if self.candidates not in CANDIDATES:
            raise FamilyError(f"candidates must be one of {', '.join(CANDIDATES)}, got {self.candidates!r}")
        if isinstance(self.propagated, str) or not self.propagated or set(self.propagated) - set(PROPAGATED):
            raise FamilyError(f"propagated must list at least one of {', '.join(PROPAGATED)}, got {self.propagated!r}")


@dataclass(frozen=True)
class Prepared:
    """What a network made of B images; only the network itself knows what it means.

    Attributes:
        tensors: name -> (B, ...), such as ``{"embedding": (B, 256, 64, 64)}`` of SAM.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        """B, the number of images."""
        return next(iter(self.tensors.values())).shape[0]

    @property
    def nbytes(self) -> int:
        """Memory of all tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def map(self, change: Callable[[Tensor], Tensor]) -> Prepared:
        """Every tensor changed alike."""
        return Prepared({name: change(tensor) for name, tensor in self.tensors.items()})

    def to(self, device: torch.device | str) -> Prepared:
        """On another device."""
        return self.map(lambda tensor: tensor.to(device))

    def of_objects(self, prompts: PromptBatch) -> Prepared:
        """The image of each of N objects: tensors (N, ...).

        Raises:
            ValueError: several images, and no ``image_index`` that says which object lies in which.
        """
        if prompts.image_index is not None:
            return self.map(lambda tensor: tensor[prompts.image_index.long()])
        if len(self) != 1:
            raise ValueError(f"{len(self)} images need image_index to say which object lies where, got None")
        return self.map(lambda tensor: tensor.expand(prompts.count, *tensor.shape[1:]))

    def averaged(self) -> Tensor:
        """The first of the tensors averaged over its pixels: (B, C) float, of SAM's embedding (B, 256)."""
        return next(iter(self.tensors.values())).float().flatten(2).mean(dim=-1)

    @staticmethod
    def cat(parts: Sequence[Prepared]) -> Prepared:
        """The images of several, in order."""
        return Prepared({name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors})


@dataclass
class MaskPrediction:
    """What the decoder answers for N objects.

    Attributes:
        logits: (N, M, 4g, 4g); a mask is ``logits > 0``.
        iou: (N, M), the network's own estimate of each mask's IoU.
    """

    logits: Tensor
    iou: Tensor

    def single(self) -> MaskPrediction:
        """Of all masks the single one, which answers clear prompts: (N, 1, m, m)."""
        return MaskPrediction(self.logits[:, :1], self.iou[:, :1])

    def candidates(self) -> MaskPrediction:
        """Of all masks the candidates for an ambiguous prompt: (N, M, m, m)."""
        return MaskPrediction(self.logits[:, 1:], self.iou[:, 1:])

    def best(self) -> tuple[Tensor, Tensor]:
        """The mask of highest predicted IoU of each object: logits (N, 1, 4g, 4g) and IoU (N,)."""
        iou, index = self.iou.max(dim=1)
        return self.logits.take_along_dim(index.view(-1, 1, 1, 1), dim=1), iou


class PromptableModel(Protocol):
    """Answers prompts about prepared images; a network, or an engine that runs one."""

    spec: ModelSpec

    def prepare(self, images: Tensor) -> Prepared:
        """Do what is done once per image: (B, *spec.input_shape) normalised float."""
        ...

    def predict(self, prepared: Prepared, prompts: PromptBatch, *, multimask: bool | None = None) -> MaskPrediction:
        """Predict the masks of N objects: those that these prompts are to be answered with, if nothing else is said."""
        ...


class PromptableNetwork(nn.Module, ABC):
    """What networks that take prompts share; a subclass has a ``spec``, ``prepare``, ``decoder_inputs``, ``tunable``.

    Its ``mask_decoder`` maps those inputs to logits (N, 1 + M, m, m) and predicted IoU (N, 1 + M) in ``predict_masks``:
    the single mask first, which answers clear prompts, then M candidates for an ambiguous one (SAM, section 3).
    """

    spec: ModelSpec
    mask_decoder: nn.Module

    @abstractmethod
    def prepare(self, images: Tensor) -> Prepared:
        """Do what is done once per image.

        Args:
            images: (B, 3, S, S) float, normalised by the family's ``Contract``.

        Raises:
            ValueError: images of another shape.
        """

    def describe(self, images: Tensor) -> Tensor:
        """What images look like to the network, to compare them with each other: (B, C) float.

        Args:
            images: (B, 3, S, S) float, normalised by the family's ``Contract``.
        """
        return self.prepare(images).averaged()

    @abstractmethod
    def decoder_inputs(
        self, features: Mapping[str, Tensor], tokens: tuple[Tensor, Tensor] | None, masks: Tensor | None
    ) -> dict[str, Tensor]:
        """What ``mask_decoder.predict_masks`` takes, by name.

        Args:
            features: the prepared image of each of N objects, (N, ...) each.
            tokens: points and box corners: coordinates (N, T, 2) and codes (N, T), see ``PromptBatch.tokens``; or None.
            masks: (N, 1, m, m) logits, NaN throughout for an object without a mask; None when no object has one.
        """

    @abstractmethod
    def tunable(self, part: str) -> list[list[nn.Module]]:
        """The blocks that adapters and LoRA may tune, from the first to the last.

        Args:
            part: "encoder" or "decoder".

        Returns:
            Groups of blocks; a group is what one index of ``blocks`` names in a tuning.
        """

    def answers_candidates(self, prompts: PromptBatch) -> bool:
        """Whether it was trained to answer these prompts with its candidate masks rather than with its single one."""
        return self.spec.candidates == "always" or prompts.ambiguous

    def predict(self, prepared: Prepared, prompts: PromptBatch, *, multimask: bool | None = None) -> MaskPrediction:
        """Predict the masks of N objects, in training, validation and use alike.

        The numbers are those of each object asked alone, in SAM those of segment-anything. In training, objects that
        differ in their prompts may share a batch: what one lacks is padded, as in SAM's training. In use the padding
        would change the answers, so such a batch is refused.

        Args:
            prepared: of B images.
            prompts: of N objects in them.
            multimask: the candidates (True) or the single mask (False) instead of those that the network was trained
                to answer these prompts with.

        Returns:
            Logits (N, M, m, m) and predicted IoU (N, M), M = 3 or 1 in SAM.

        Raises:
            PromptError: objects of one batch are asked with different numbers of points or kinds of prompts (a network
                that draws its prompts can mix them where ``multimask`` is given).
            ValueError: shapes that do not fit, or several images without ``image_index``.
        """
        may_mix = self.training or (multimask is not None and self.spec.mixes_prompts)
        if not may_mix and prompts.mixed:
            raise PromptError(
                "objects of one batch must be asked with as many points each, and all or none with a box or a mask: "
                "what one lacks would change its answer; ask those that differ in batches of their own"
            )
        every = self.predict_all(prepared, prompts)
        multimask = self.answers_candidates(prompts) if multimask is None else multimask
        return every.candidates() if multimask else every.single()

    def predict_all(
        self, prepared: Prepared, prompts: PromptBatch, *, run: Callable[..., tuple[Tensor, Tensor]] | None = None
    ) -> MaskPrediction:
        """As ``predict``, with the single mask and after it the candidates: (N, 1 + M, m, m) and (N, 1 + M).

        Args:
            prepared, prompts: as ``predict``.
            run: calls ``predict_masks`` of a decoder with named tensors, such as a compiled function; takes the
                decoder and the tensors.
        """
        prompts.validate(self.spec.mask_size)
        inputs = self.decoder_inputs(prepared.of_objects(prompts).tensors, prompts.tokens(), prompts.masks)
        logits, iou = self.mask_decoder.predict_masks(**inputs) if run is None else run(self.mask_decoder, **inputs)
        return MaskPrediction(logits, iou)

    def forward(self, image: Tensor) -> Tensor:
        """Segment the main object of each image, asked for with a box around the whole image.

        Of candidate masks, where the network answers a box with them, it is the one of highest predicted IoU.
        This is what MONAI's tools (verify_net_in_out, export) call.

        Args:
            image: (B, 3, S, S) normalised float.

        Returns:
            (B, 1, S, S) logits.
        """
        count, last = image.shape[0], image.shape[-1] - 1.0
        prompts = PromptBatch(
            boxes=image.new_tensor([0.0, 0.0, last, last]).expand(count, -1),
            image_index=torch.arange(count, device=image.device),
        )
        every = self.predict_all(self.prepare(image), prompts)
        logits, _ = (every.candidates() if self.answers_candidates(prompts) else every.single()).best()
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script``, the default of MONAI's ``ckpt_export``, takes instead: a trace, for any batch."""
        with torch.no_grad():
            return _Traced(torch.jit.trace(self, torch.zeros(2, *self.spec.input_shape), check_trace=False))

    def check_images(self, images: Tensor) -> None:
        """Raises ValueError for images that are not (B, *input_shape)."""
        if images.ndim != 1 + len(self.spec.input_shape) or tuple(images.shape[1:]) != self.spec.input_shape:
            expected = ", ".join(str(size) for size in self.spec.input_shape)
            raise ValueError(
                f"images must have shape (B, {expected}), got {tuple(images.shape)}; "
                "prepare them with the family's contract"
            )


class _Traced(nn.Module):
    """A traced network as a module that can be scripted."""

    def __init__(self, traced: nn.Module) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, image: Tensor) -> Tensor:
        return self.traced(image)
