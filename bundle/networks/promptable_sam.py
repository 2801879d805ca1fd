"""Segment Anything: an image encoder, SAM's prompt encoder and SAM's mask decoder, for many objects of many images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from bundle.networks.interface import PROPAGATED, ModelSpec, Prepared, PromptableNetwork
from bundle.networks.mask_decoder import MaskDecoder
from bundle.networks.prompt_encoder import PromptEncoder


class PromptableSam(PromptableNetwork):
    """Encode images once, decode the prompts of many objects in one batch, under segment-anything's parameter names.

    The numbers are those of segment-anything. What an object of a mixed training batch lacks is padded with SAM's "not
    a point" and "no mask" embeddings, as in SAM's training.

    Args:
        image_encoder: maps (B, 3, S, S) to named features, of which "embedding" is (B, 256, g, g) (``VitEncoder``,
            ``TinyVitEncoder``).
        prompt_encoder: knows S and g.
        mask_decoder: SAM's, one with another number of masks, or one that reads finer features as well.
        candidates, propagated: see ``ModelSpec``.
        official: whether segment-anything's own code knows all three.

    Raises:
        FamilyError: ``candidates`` or ``propagated`` is unknown.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        *,
        candidates: str = "ambiguous",
        propagated: Sequence[str] = PROPAGATED,
        official: bool = True,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        size = prompt_encoder.input_image_size[0]
        self.spec = ModelSpec(
            input_shape=(3, size, size),
            mask_size=4 * self.grid_size,
            candidates=candidates,
            propagated=tuple(propagated),
            official=official,
        )

    @property
    def grid_size(self) -> int:
        """g, the side of the embedding."""
        return self.prompt_encoder.image_embedding_size[0]

    def prepare(self, images: Tensor) -> Prepared:
        """Embed (B, 3, S, S) normalised float images: {"embedding": (B, 256, g, g), ...}."""
        self.check_images(images)
        return Prepared(self.image_encoder.features(images))

    def decoder_inputs(
        self, features: Mapping[str, Tensor], tokens: tuple[Tensor, Tensor] | None, masks: Tensor | None
    ) -> dict[str, Tensor]:
        """What SAM's mask decoder takes: the features of each object's image, and its embedded prompts."""
        finer = dict(features)
        embedding = finer.pop("embedding")  # (N, 256, g, g)
        count = embedding.shape[0]
        if tokens is None:
            sparse = embedding.new_zeros(count, 0, self.prompt_encoder.embed_dim)
        else:
            sparse = self.prompt_encoder.embed_tokens(*tokens)  # (N, T, 256)
        return {
            "image_embeddings": embedding,
            "image_pe": self.prompt_encoder.get_dense_pe(),
            "sparse_prompt_embeddings": sparse,
            "dense_prompt_embeddings": self.prompt_encoder.embed_dense(masks, count, tokens),
            **finer,
        }

    def tunable(self, part: str) -> list[list[nn.Module]]:
        """The encoder's blocks; the decoder's layers, with the last attention in a group of its own behind them."""
        if part == "encoder":
            return self.image_encoder.tunable()
        transformer = self.mask_decoder.transformer
        return [*([layer] for layer in transformer.layers), [transformer.final_attn_token_to_image]]
