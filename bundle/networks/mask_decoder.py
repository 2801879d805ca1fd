"""SAM's mask decoder for objects that lie in different images."""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from torch import Tensor


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
    ) -> tuple[Tensor, Tensor]:
        """Predict every mask of every object.

        Args:
            image_embeddings: (N, 256, g, g), the embedding of each object's image.
            image_pe: (1, 256, g, g) positional encoding of the grid.
            sparse_prompt_embeddings: (N, T, 256).
            dense_prompt_embeddings: (N, 256, g, g).

        Returns:
            Logits (N, M, 4g, 4g) and predicted IoU (N, M), M = 1 + multimask outputs; index 0 is the single mask.
        """
        count = sparse_prompt_embeddings.shape[0]
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([outputs.expand(count, -1, -1), sparse_prompt_embeddings], dim=1)
        source = image_embeddings + dense_prompt_embeddings
        tokens, source_tokens = self.transformer(source, image_pe.expand(count, -1, -1, -1), tokens)

        fine = self.output_upscaling(source_tokens.transpose(1, 2).reshape(source.shape))
        weights = [head(tokens[:, 1 + i]) for i, head in enumerate(self.output_hypernetworks_mlps)]
        logits = torch.einsum("nmc,nchw->nmhw", torch.stack(weights, dim=1), fine)
        return logits, self.iou_prediction_head(tokens[:, 0])
