"""Training a decoder from stored embeddings: a frozen encoder sees each image once.

``scripts/benchmark_training.py`` measures what that saves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.errors import TrainingError
from bundle.inference.store import EmbeddingStore, network_identity
from bundle.training.losses import LossTerms
from bundle.training.objectives import Objective
from bundle.training.samples import SampleBatch


class StoredEmbeddings:
    """Embeddings of a frozen encoder, by the content of the image and of the encoder, in memory and on disk.

    Images have to come again to be found again: no augmentation, or few ``variants`` of each slice.

    Args:
        folder: where they go on disk, one float32 ``.npy`` each.
        memory_bytes, disk_bytes: budgets; the least recently used go first.
    """

    def __init__(self, folder: str | Path, *, memory_bytes: int = 4 << 30, disk_bytes: int = 64 << 30) -> None:
        self.store = EmbeddingStore(memory_bytes=memory_bytes, folder=folder, disk_bytes=disk_bytes)
        self._identities: dict[nn.Module, str] = {}

    def encode(self, network: nn.Module, images: Tensor) -> Tensor:
        """Embed (B, 3, S, S) images, each at most once in a lifetime of the folder.

        They are computed in float32 whatever the training's precision is, so that they serve every run.

        Raises:
            TrainingError: if a parameter of the encoder trains.
        """
        identity = self._identity(network)
        return torch.cat([self._embedding(network, image, identity) for image in images.split(1)]).to(images.device)

    def _embedding(self, network: nn.Module, image: Tensor, identity: str) -> Tensor:
        digest = hashlib.sha256(identity.encode())
        digest.update(image.cpu().contiguous().numpy())

        def compute() -> Tensor:
            with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
                return network.encode(image).cpu()

        return self.store.get(digest.hexdigest(), compute)[0]

    def _identity(self, network: nn.Module) -> str:
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

    def __call__(self, network: nn.Module, batch: SampleBatch) -> Iterator[LossTerms]:
        """Yield the losses of the objective."""
        yield from self.objective(EncodedOnce(network, self.embeddings), batch)


class EncodedOnce:
    """A network whose ``encode`` asks the store first; everything else is the network's own."""

    def __init__(self, network: nn.Module, embeddings: StoredEmbeddings) -> None:
        self._network, self._embeddings = network, embeddings

    def encode(self, images: Tensor) -> Tensor:
        """As PromptableSam.encode."""
        return self._embeddings.encode(self._network, images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)
