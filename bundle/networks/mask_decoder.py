"""SAM's mask decoder for objects that lie in different images."""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from torch import Tensor, nn

# Features of the image beside its embedding: channels, and how many times finer they are than the embedding's grid.
FINE_CHANNELS = (32, 8)
FINE_FACTORS = (2, 4)


class MaskDecoder(SamMaskDecoder):
    """segment-anything's mask decoder, with its parameters, fed one image embedding per object.

    Upstream repeats the embedding of a single image for all its prompts; here the caller has already gathered the
    embedding of each object's image, so one call serves any number of images.
    """

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        **features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict every mask of every object.

        Args:
            image_embeddings: (N, 256, g, g), the embedding of each object's image.
            image_pe: (1, 256, g, g) positional encoding of the grid.
            sparse_prompt_embeddings: (N, T, 256).
            dense_prompt_embeddings: (N, 256, g, g).
            features: what else the encoder gave of each object's image, for decoders that read it.

        Returns:
            Logits (N, M, 4g, 4g) and predicted IoU (N, M), M = 1 + multimask outputs; index 0 is the single mask.
        """
        count = sparse_prompt_embeddings.shape[0]
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([outputs.expand(count, -1, -1), sparse_prompt_embeddings], dim=1)
        source = image_embeddings + dense_prompt_embeddings
        tokens, source_tokens = self.transformer(source, image_pe.expand(count, -1, -1, -1), tokens)

        fine = self.upscale(source_tokens.transpose(1, 2).reshape(source.shape), **features)  # (N, 32, 4g, 4g)
        weights = [head(tokens[:, 1 + i]) for i, head in enumerate(self.output_hypernetworks_mlps)]
        logits = torch.einsum("nmc,nchw->nmhw", torch.stack(weights, dim=1), fine)
        return logits, self.iou_prediction_head(tokens[:, 0])

    def upscale(self, x: Tensor) -> Tensor:
        """Scale the prompted embedding (N, 256, g, g) up to (N, 32, 4g, 4g), from which the masks are read."""
        return self.output_upscaling(x)


class FineMaskDecoder(MaskDecoder):
    """SAM's mask decoder that sees the image at the size of its masks, as SAM 2's (Ravi et al. 2024) does.

    SAM's own masks are drawn from cells of g x g alone, which a large encoder can fill with detail; a small one cannot.
    Here features of 2g x 2g and 4g x 4g are added on the way up, each followed by one residual 3x3 convolution
    (``TinyVitEncoder`` with ``fine`` gives them).
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        middle, last = self.transformer_dim // 4, self.transformer_dim // 8
        self.fine_projections = nn.ModuleList(
            nn.Conv2d(channels, width, 1) for channels, width in zip(FINE_CHANNELS, (middle, last), strict=True)
        )
        self.fine_refinements = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU()) for width in (middle, last)
        )
        # At first they add nothing, so that training may start from weights of a decoder without them.
        for module in (*self.fine_projections, *(block[0] for block in self.fine_refinements)):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def upscale(self, x: Tensor, fine2: Tensor, fine4: Tensor) -> Tensor:
        """As above, with the finer features (N, 32, 2g, 2g) and (N, 8, 4g, 4g)."""
        first, norm, activation, second, last_activation = self.output_upscaling
        x = activation(norm(first(x) + self.fine_projections[0](fine2)))
        x = x + self.fine_refinements[0](x)
        x = last_activation(second(x) + self.fine_projections[1](fine4))
        return x + self.fine_refinements[1](x)
