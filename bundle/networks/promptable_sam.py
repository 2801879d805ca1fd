"""The promptable network: encode images once, decode prompts of many objects of many images in one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.errors import PromptError
from bundle.networks.mask_decoder import MaskDecoder
from bundle.networks.prompt_encoder import BOX_FIRST_CORNER, BOX_SECOND_CORNER, PADDING, PromptEncoder

# Which prompts are answered with SAM's candidate masks: one point alone, as in SAM, or every prompt, as in SAM-Med2D.
CANDIDATES = ("ambiguous", "always")


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


@dataclass
class MaskPrediction:
    """What the decoder answers for N objects.

    Attributes:
        logits: (N, M, 4g, 4g); a mask is ``logits > 0``.
        iou: (N, M), the network's own estimate of each mask's IoU.
    """

    logits: Tensor
    iou: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """The mask of highest predicted IoU of each object: logits (N, 1, 4g, 4g) and IoU (N,)."""
        iou, index = self.iou.max(dim=1)
        return self.logits.take_along_dim(index.view(-1, 1, 1, 1), dim=1), iou


class PromptableSam(nn.Module):
    """An image encoder, SAM's prompt encoder and SAM's mask decoder, under segment-anything's parameter names.

    It takes images that the family's ``Contract`` has already normalised; it does not normalise.

    Args:
        image_encoder: maps (B, 3, S, S) to (B, C, g, g); C is 256, and more where the decoder reads fine features.
        prompt_encoder: knows S and g.
        mask_decoder: SAM's, or one with another number of masks.
        candidates: one of ``CANDIDATES``: which prompts it was trained to answer with its candidate masks rather than
            with its single one. Asked otherwise, it would answer with a mask that nobody trained.

    All three can be other modules with the same interface, such as those of ``bundle.networks.prompted_unet``.

    Raises:
        ValueError: if ``candidates`` is unknown.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        *,
        candidates: str = "ambiguous",
    ) -> None:
        super().__init__()
        if candidates not in CANDIDATES:
            raise ValueError(f"candidates must be one of {', '.join(CANDIDATES)}, got {candidates!r}")
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.candidates = candidates

    @property
    def image_size(self) -> int:
        """S, the side of the model square in pixels."""
        return self.prompt_encoder.input_image_size[0]

    @property
    def grid_size(self) -> int:
        """g, the side of the embedding."""
        return self.prompt_encoder.image_embedding_size[0]

    @property
    def answers_in_bfloat16(self) -> bool:
        """Whether its answers stay as good in bfloat16, where a CPU computes in it."""
        return getattr(self.mask_decoder, "answers_in_bfloat16", False)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""
        return 3, self.image_size, self.image_size

    def encode(self, images: Tensor) -> Tensor:
        """Embed images: (B, 3, S, S) normalised float to (B, C, g, g).

        Raises:
            ValueError: if the images have another shape.
        """
        expected = (3, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            size = self.image_size
            raise ValueError(
                f"images must have shape (B, 3, {size}, {size}), got {tuple(images.shape)}; "
                "prepare them with the family's contract"
            )
        return self.image_encoder(images)

    def answers_candidates(self, prompts: PromptBatch) -> bool:
        """Whether it was trained to answer these prompts with its candidate masks rather than with its single one."""
        return self.candidates == "always" or prompts.ambiguous

    def decode(self, embeddings: Tensor, prompts: PromptBatch, *, multimask: bool | None = None) -> MaskPrediction:
        """Predict the masks of N objects, in training, validation and use alike.

        The numbers are those of segment-anything, and those of each object asked alone. In training, objects that
        differ in their prompts may share a batch: what one lacks is padded with SAM's "not a point" and "no mask", as
        in SAM's training. In use the padding would change the answers, so such a batch is refused.

        Args:
            embeddings: (B, C, g, g) from ``encode``.
            prompts: the prompts of N objects.
            multimask: answer the candidate masks (True) or the single one (False) instead of those that the network was
                trained to answer these prompts with.

        Returns:
            Logits (N, M, 4g, 4g) and predicted IoU (N, M), M = 3 or 1.

        Raises:
            PromptError: if objects of one batch are asked with different numbers of points or kinds of prompts (a
                network that draws its prompts can mix them where ``multimask`` is given).
            ValueError: if shapes do not fit, or several images come without ``image_index``.
        """
        may_mix = self.training or (multimask is not None and getattr(self.prompt_encoder, "mixes_prompts", False))
        if not may_mix and prompts.mixed:
            raise PromptError(
                "objects of one batch must be asked with as many points each, and all or none with a box or a mask: "
                "what one lacks would change its answer; ask those that differ in batches of their own"
            )
        return self._decode(embeddings, prompts, self.answers_candidates(prompts) if multimask is None else multimask)

    def _decode(self, embeddings: Tensor, prompts: PromptBatch, multimask: bool) -> MaskPrediction:
        inputs = self._decoder_inputs(embeddings, prompts)
        logits, iou = self.mask_decoder(**inputs, multimask_output=multimask)
        return MaskPrediction(logits, iou)

    def decode_all(
        self, embeddings: Tensor, prompts: PromptBatch, *, predict: Callable[..., tuple[Tensor, Tensor]] | None = None
    ) -> MaskPrediction:
        """As ``decode`` in training, but all masks, the single one first: (N, 1 + M, 4g, 4g) and (N, 1 + M).

        Args:
            embeddings, prompts: as ``decode``.
            predict: stands in for the decoder's own ``predict_masks``, such as a compiled one.
        """
        predict = predict or self.mask_decoder.predict_masks
        return MaskPrediction(*predict(**self._decoder_inputs(embeddings, prompts)))

    def forward(self, image: Tensor) -> Tensor:
        """Segment the main object of each image, asked for with a box around the whole image.

        Of candidate masks, where the network answers a box with them, it is the one of highest predicted IoU.
        This is what MONAI's tools (verify_net_in_out, export) call.

        Args:
            image: (B, 3, S, S) normalised float.

        Returns:
            (B, 1, S, S) logits.
        """
        count, last = image.shape[0], self.image_size - 1.0
        prompts = PromptBatch(
            boxes=image.new_tensor([0.0, 0.0, last, last]).expand(count, -1),
            image_index=torch.arange(count, device=image.device),
        )
        logits, _ = self._decode(self.encode(image), prompts, self.answers_candidates(prompts)).best()
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script``, the default of MONAI's ``ckpt_export``, takes instead: a trace, for any batch."""
        with torch.no_grad():
            return _Traced(torch.jit.trace(self, torch.zeros(2, *self.input_shape), check_trace=False))

    def _decoder_inputs(self, embeddings: Tensor, prompts: PromptBatch) -> dict[str, Tensor]:
        prompts.validate(4 * self.grid_size)
        tokens = prompts.tokens()
        if tokens is None:
            sparse = embeddings.new_zeros(prompts.count, 0, self.prompt_encoder.embed_dim)
        else:
            sparse = self.prompt_encoder.embed_tokens(*tokens)
        return {
            "image_embeddings": self._embedding_of_each_object(embeddings, prompts),
            "image_pe": self.prompt_encoder.get_dense_pe(),
            "sparse_prompt_embeddings": sparse,
            "dense_prompt_embeddings": self.prompt_encoder.embed_dense(prompts.masks, prompts.count, tokens),
        }

    def _embedding_of_each_object(self, embeddings: Tensor, prompts: PromptBatch) -> Tensor:
        """Gather (N, C, g, g) from (B, C, g, g)."""
        expected = (self.mask_decoder.image_channels, self.grid_size, self.grid_size)
        if embeddings.ndim != 4 or tuple(embeddings.shape[1:]) != expected:
            raise ValueError(f"embeddings must have shape (B, {str(expected)[1:]}, got {tuple(embeddings.shape)}")
        if prompts.image_index is not None:
            return embeddings[prompts.image_index.long()]
        if len(embeddings) != 1:
            raise ValueError(f"{len(embeddings)} images need image_index to say which object lies where, got None")
        return embeddings.expand(prompts.count, -1, -1, -1)


class _Traced(nn.Module):
    """A traced network as a module that can be scripted."""

    def __init__(self, traced: nn.Module) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, image: Tensor) -> Tensor:
        return self.traced(image)
