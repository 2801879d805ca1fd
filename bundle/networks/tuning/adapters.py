"""Adapters of SAM-Med2D and finetune-SAM, attached from outside as children of a block and forward hooks.

A U-Net has no blocks with attention; its adapters follow the levels. How the blocks of SAM and TinyViT take adapters is
said in `sam_blocks.py`, so that a U-Net does not wait for their packages.
"""

from __future__ import annotations

from functools import singledispatch

from torch import Tensor, nn

from bundle.errors import TuningError
from bundle.networks.prompted_unet import UNetLevel


class ConvAdapter(nn.Module):
    """SAM-Med2D's adapter: a channel gate, a strided convolution pair, a residual and a norm.

    Args:
        width: C, the channels of the block.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width // 4
        self.norm = nn.LayerNorm(width)
        self.channel = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False), nn.Sigmoid()
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        for layer in (*self.channel, *self.spatial):
            if hasattr(layer, "weight"):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, tokens: Tensor) -> Tensor:
        """Adapt (B, H, W, C) tokens, or (B, H*W, C) tokens of a square grid."""
        side = tokens.shape[1] if tokens.ndim == 4 else int(tokens.shape[1] ** 0.5)
        x = tokens.reshape(len(tokens), side, -1, tokens.shape[-1]).permute(0, 3, 1, 2)
        gate = self.channel(x.mean(dim=(2, 3)))
        x = x + self.spatial(x * gate[:, :, None, None])
        return self.norm(x.permute(0, 2, 3, 1)).reshape(tokens.shape)


class BottleneckAdapter(nn.Module):
    """finetune-SAM's adapter: down to a quarter, GELU, up again.

    Args:
        width: C, the channels of the tokens (..., C).
        residual: add the input.
    """

    def __init__(self, width: int, *, residual: bool) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(width, width // 4)
        self.D_fc2 = nn.Linear(width // 4, width)
        self.residual = residual

    def forward(self, tokens: Tensor) -> Tensor:
        """Adapt (..., C) tokens."""
        update = self.D_fc2(nn.functional.gelu(self.D_fc1(tokens)))
        return tokens + update if self.residual else update


class MapAdapter(BottleneckAdapter):
    """The same for feature maps (B, C, H, W), at the end of a level of the U-Net; at first it changes nothing.

    Args:
        width: C.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, residual=True)
        nn.init.zeros_(self.D_fc2.weight)
        nn.init.zeros_(self.D_fc2.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Adapt (B, C, H, W) feature maps."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Beside:
    """Forward hook: add ``scale * adapter(input)`` to a module's output.

    Hooks are objects, not closures, so that deepcopy (EMA) makes the copy's hook hold the copy's adapter.
    """

    def __init__(self, adapter: nn.Module, scale: float) -> None:
        self.adapter, self.scale = adapter, scale

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + self.scale * self.adapter(inputs[0])


class After:
    """Forward hook: pass a module's output through an adapter."""

    def __init__(self, adapter: nn.Module) -> None:
        self.adapter = adapter

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self.adapter(output)


class Before:
    """Forward pre-hook: pass a module's input through an adapter."""

    def __init__(self, adapter: nn.Module) -> None:
        self.adapter = adapter

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.adapter(inputs[0]), *inputs[1:]


@singledispatch
def add_conv_adapter(block: nn.Module) -> None:
    """Attach SAM-Med2D's adapter to a block, in place."""
    raise TuningError(
        "conv_adapter works on a grid of tokens, which only the encoder of a transformer has, got a "
        f"{type(block).__name__}; take adapter or lora"
    )


@singledispatch
def add_bottleneck_adapter(block: nn.Module) -> None:
    """Attach finetune-SAM's adapters to a block, in place."""
    raise TuningError(f"adapter has no place in a {type(block).__name__}; take lora")


@add_bottleneck_adapter.register
def _(level: UNetLevel) -> None:
    level.add_module("Adapter", MapAdapter(level[0][0].out_channels))
