"""SAM's prompt encoder for a batch in which every object has its own mixture of prompts."""

from __future__ import annotations

import math
from typing import Any

import torch
from segment_anything.modeling import PromptEncoder as SamPromptEncoder
from torch import Tensor

from bundle.errors import FamilyError
from bundle.prompts.batch import PADDING

# What the convolutions over a mask prompt were trained with: SAM's are logits, SAM-Med2D's are after the sigmoid.
MASK_PROMPTS = ("logits", "probability")


class PromptEncoder(SamPromptEncoder):
    """segment-anything's prompt encoder, with its parameters, for objects that differ in their prompts.

    Upstream gives all objects of a call the same kinds of prompts. Here a missing point, box or mask is marked per
    object and takes SAM's own learned "not a point" and "no mask" embeddings. Positions are encoded in float32 whatever
    autocast says: their sines turn many times over the image, and bfloat16 holds only 8 bits of a coordinate.

    Args:
        mask_prompt: one of ``MASK_PROMPTS``; masks are always given as logits, and become probabilities here.
        arguments: as segment-anything's.

    Raises:
        ValueError: on an unknown kind of mask prompt.
    """

    def __init__(self, *, mask_prompt: str = "logits", **arguments: Any) -> None:
        super().__init__(**arguments)
        if mask_prompt not in MASK_PROMPTS:
            raise FamilyError(f"mask_prompt must be one of {', '.join(MASK_PROMPTS)}, got {mask_prompt!r}")
        self.mask_prompt = mask_prompt

    def embed_tokens(self, coords: Tensor, codes: Tensor) -> Tensor:
        """Embed points and box corners.

        Args:
            coords: (N, T, 2) float, (x, y) in pixels of the model square; ignored where the code is PADDING.
            codes: (N, T) integer-valued, one of PADDING, BACKGROUND, FOREGROUND, BOX_FIRST_CORNER, BOX_SECOND_CORNER.

        Returns:
            (N, T, 256) float32 sparse embeddings.
        """
        height, width = self.input_image_size
        with torch.autocast(coords.device.type, enabled=False):
            # +0.5: a prompt names the centre of a pixel, the encoding counts from the corner of the image.
            unit = (coords.float() + 0.5) / coords.new_tensor([width, height], dtype=torch.float32)
            position = self._encode_position(unit)
        kinds = torch.cat([self.not_a_point_embed.weight, *(e.weight for e in self.point_embeddings)])
        codes = codes.long()
        return torch.where((codes == PADDING).unsqueeze(-1), 0.0, position) + kinds[codes + 1]

    def embed_masks(self, masks: Tensor | None, count: int) -> Tensor:
        """Embed mask prompts; an object whose mask holds NaN has none.

        Args:
            masks: (N, 1, 4g, 4g) logits, or None when no object has a mask.
            count: N, the number of objects.

        Returns:
            (N, 256, g, g) dense embeddings.
        """
        without = self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(count, -1, *self.image_embedding_size)
        if masks is None:
            return without
        missing = masks.isnan().flatten(1).any(1).view(-1, 1, 1, 1)
        # NaN must leave before the convolutions: where() alone would still send NaN gradients into their weights.
        masks = masks.sigmoid() if self.mask_prompt == "probability" else masks
        return torch.where(missing, without, self.mask_downscaling(torch.where(missing, 0.0, masks)))

    def embed_dense(self, masks: Tensor | None, count: int, tokens: tuple[Tensor, Tensor] | None) -> Tensor:
        """Embed what goes with every cell of the image embedding: in SAM the mask prompts alone.

        Args:
            masks, count: as ``embed_masks``.
            tokens: coordinates and codes as ``embed_tokens``, for encoders that also draw them.

        Returns:
            (N, 256, g, g).
        """
        return self.embed_masks(masks, count)

    def get_dense_pe(self) -> Tensor:
        """The positional encoding of every cell of the embedding, (1, 256, g, g) float32."""
        rows, columns = self.image_embedding_size
        device = self.no_mask_embed.weight.device
        y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) / rows
        x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) / columns
        unit = torch.stack([x.expand(rows, -1), y.unsqueeze(1).expand(-1, columns)], dim=-1)
        with torch.autocast(device.type, enabled=False):
            return self._encode_position(unit).permute(2, 0, 1).unsqueeze(0)

    def _encode_position(self, unit: Tensor) -> Tensor:
        """Random Fourier features of (..., 2) positions in 0..1 (Tancik et al. 2020, as SAM uses them)."""
        frequencies = self.pe_layer.positional_encoding_gaussian_matrix.float()
        phase = 2 * math.pi * ((2 * unit - 1) @ frequencies)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)
