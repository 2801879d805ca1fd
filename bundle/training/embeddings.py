"""Training a decoder from stored embeddings: a frozen encoder sees each image once.

``scripts/benchmark_training.py`` measures what that saves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bundle.engines.cache import PreparedCache, network_identity
from bundle.errors import TrainingError
from bundle.networks.interface import ModelSpec, Prepared, PromptableNetwork
from bundle.networks.promptable_sam import PromptableSam
from bundle.training.batches import SampleBatch
from bundle.training.interface import Objective
from bundle.training.losses import LossTerms


class StoredEmbeddings:
    """Embeddings of a frozen encoder, by the content of the image and of the encoder, in memory and on disk.

    Images have to come again to be found again: no augmentation, or few ``variants`` of each slice.

    Args:
        folder: where they go on disk, in float32, one file each.
        memory_bytes, disk_bytes: budgets; the least recently used go first.
    """

    def __init__(self, folder: str | Path, *, memory_bytes: int = 4 << 30, disk_bytes: int = 64 << 30) -> None:
        self.store = PreparedCache(memory_bytes=memory_bytes, folder=folder, disk_bytes=disk_bytes)
        self._identities: dict[nn.Module, str] = {}

    def prepare(self, network: PromptableNetwork, images: Tensor) -> Prepared:
        """Prepare (B, 3, S, S) images, each at most once in a lifetime of the folder.

        They are computed in float32 whatever the training's precision is, so that they serve every run.

        Raises:
            TrainingError: if a parameter of the encoder trains, or there is no encoder.
        """
        if not network.spec.keeps_prepared:
            raise TrainingError("stored embeddings need an image encoder, got a network that has none; train without")
        identity = self._identity(network)
        return Prepared.cat([self._one(network, image, identity) for image in images.split(1)]).to(images.device)

    def _one(self, network: PromptableNetwork, image: Tensor, identity: str) -> Prepared:
        digest = hashlib.sha256(identity.encode())
        digest.update(image.cpu().contiguous().numpy())

        def compute() -> Prepared:
            with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
                return network.prepare(image).to("cpu")

        return self.store.get(digest.hexdigest(), compute)[0]

    def _identity(self, network: PromptableNetwork) -> str:
        encoder = network.image_encoder
        if encoder not in self._identities:
            if names := [name for name, p in encoder.named_parameters() if p.requires_grad]:
                raise TrainingError(f"stored embeddings need a frozen image encoder, but {names[0]} trains")
            self._identities[encoder] = network_identity(encoder)
        return self._identities[encoder]


class FromStore:
    """An objective whose network takes its embeddings from a store.

    Args:
        objective: any promptable objective.
        embeddings: the store.
    """

    def __init__(self, objective: Objective, embeddings: StoredEmbeddings) -> None:
        self.objective, self.embeddings = objective, embeddings

    def __call__(self, network: PromptableNetwork, batch: SampleBatch) -> Iterator[LossTerms]:
        """Yield the losses of the objective."""
        yield from self.objective(PreparedOnce(network, self.embeddings), batch)


class PreparedOnce(PromptableNetwork):
    """A network whose images are prepared by the store; everything else is the network's own.

    Args:
        network: its parts are shared, not copied.
        embeddings: the store.
    """

    def __init__(self, network: PromptableSam, embeddings: StoredEmbeddings) -> None:
        super().__init__()
        self.network, self.embeddings = network, embeddings
        self.mask_decoder = network.mask_decoder

    @property
    def prompt_encoder(self) -> nn.Module:
        """The network's."""
        return self.network.prompt_encoder

    @property
    def spec(self) -> ModelSpec:
        """The network's."""
        return self.network.spec

    def prepare(self, images: Tensor) -> Prepared:
        """As the network does, at most once per image."""
        return self.embeddings.prepare(self.network, images)

    def decoder_inputs(
        self, features: Mapping[str, Tensor], tokens: tuple[Tensor, Tensor] | None, masks: Tensor | None
    ) -> dict[str, Tensor]:
        """The network's."""
        return self.network.decoder_inputs(features, tokens, masks)

    def tunable(self, part: str) -> list[list[nn.Module]]:
        """The network's."""
        return self.network.tunable(part)
