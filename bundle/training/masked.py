"""Masked auto-encoding of an image encoder on slices without labels.

Patches of the input are blanked and a light head reconstructs them from the embedding (SimMIM, Xie et al. 2022). Unlike
MAE's dropping of tokens this works for every encoder: windowed attention, convolutions and SAM's neck stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from bundle.errors import TrainingError
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.semantic import SemanticSam2d
from bundle.networks.vit import EMBEDDING_CHANNELS
from bundle.training.batches import SampleBatch
from bundle.training.distributed import gather
from bundle.training.losses import LossTerms


class Reconstruction(nn.Module):
    """The image encoder of a network under a linear head that gives pixels back.

    The encoder keeps its parameter names, so that any network with it starts from the checkpoint
    (``bundle.training.start.start_network``); prompt encoder and decoders are left behind.

    Args:
        network: whose encoder is trained.

    Raises:
        TrainingError: the encoder wants stacks of slices, or has nothing to train.
    """

    def __init__(self, network: PromptableSam | SemanticSam2d) -> None:
        super().__init__()
        if len(network.spec.input_shape) != 3:
            raise TrainingError(
                "expected an encoder of slices, got medico_sam_3d's; train medico_sam's, it starts from that"
            )
        if not network.spec.keeps_prepared:
            raise TrainingError(
                "expected an image encoder with weights, got a U-Net, which encodes image and prompts together; take "
                "another family, such as tiny_vit"
            )
        self.image_encoder = network.image_encoder
        self.stride = self.image_encoder.stride
        self.head = nn.Conv2d(EMBEDDING_CHANNELS, 3 * self.stride**2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct (B, 3, S, S) images from what is not blanked in them."""
        return pixel_shuffle(self.head(self.image_encoder(images)), self.stride)  # without finer features


class MaskedAutoencoding:
    """Squared error of the blanked patches, each normalised to zero mean and unit variance (He et al. 2022).

    Args:
        ratio: share of patches that are blanked (0.75 in MAE).
        patch: side of a patch in pixels of the model square (16 in ViT); smaller than the model square and dividing it.
        seed: with the draw numbers it decides which patches.
    """

    def __init__(self, *, ratio: float = 0.75, patch: int = 16, seed: int = 0) -> None:
        if not 0 < ratio < 1:
            raise TrainingError(f"ratio must lie between 0 and 1, got {ratio}")
        self.ratio, self.patch, self.seed = ratio, patch, seed

    def __call__(self, network: nn.Module, batch: SampleBatch) -> Iterator[LossTerms]:
        """Yield one loss."""
        yield LossTerms.plain(self.errors(network, batch).mean())

    def errors(self, network: nn.Module, batch: SampleBatch) -> Tensor:
        """(B,) the error of each image."""
        blanked = self._blanked(batch)
        pixels = interpolate(blanked, scale_factor=float(self.patch), mode="nearest")
        restored = network(batch.images * (1 - pixels))
        error = (_patches(restored.float(), self.patch) - self._normalised(batch.images)).square().mean(dim=1)
        return (error * blanked[:, 0]).flatten(1).sum(1) / blanked.flatten(1).sum(1)

    def _blanked(self, batch: SampleBatch) -> Tensor:
        """(B, 1, n, n) float, 1 where a patch is blanked: the same number in each image."""
        side = batch.images.shape[-1]
        if side % self.patch:
            raise TrainingError(f"patch must divide the model square of {side} px, got {self.patch}")
        n = side // self.patch
        blanked = np.zeros((len(batch.images), n * n), np.float32)
        for row, draw in zip(blanked, batch.draws.tolist(), strict=True):
            order = np.random.default_rng((self.seed, draw)).permutation(n * n)
            row[order[: max(1, round(self.ratio * n * n))]] = 1
        return torch.from_numpy(blanked).view(-1, 1, n, n).to(batch.images.device)

    def _normalised(self, images: Tensor) -> Tensor:
        patches = _patches(images, self.patch)
        variance, mean = torch.var_mean(patches, dim=1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()


class ReconstructionEvaluator(SupervisedEvaluator):
    """Output per image: minus its error, so that higher is better as for a DSC.

    Args:
        objective: blanks the same patches at every validation, because draw numbers are the slices' own.
        arguments: as MONAI's SupervisedEvaluator.
    """

    def __init__(self, *, objective: MaskedAutoencoding, **arguments: Any) -> None:
        super().__init__(decollate=False, **arguments)
        self.objective = objective

    def _iteration(self, engine: Engine, batch: SampleBatch) -> list[float]:
        self.network.eval()
        with torch.inference_mode():
            return (-self.objective.errors(self.network, batch.to(self.state.device))).tolist()


class MeanScore(Metric):
    """Mean over the images of all processes; 0 without any image."""

    def reset(self) -> None:
        self.values: list[float] = []

    def update(self, output: list[float]) -> None:
        self.values += output

    def compute(self) -> float:
        values = gather(self.values)
        return float(np.mean(values)) if values else 0.0


def _patches(images: Tensor, patch: int) -> Tensor:
    """(B, 3, S, S) to (B, 3 * patch**2, S / patch, S / patch)."""
    return nn.functional.pixel_unshuffle(images, patch)
