"""One loaded model, shared by all images that are worked on."""

from __future__ import annotations

from pathlib import Path

import torch

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.families.family import Family, build_network, load_family
from bundle.interactive.journal import Journal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from bundle.networks.interface import PromptableNetwork


class Segmenter:
    """A model family with its weights, ready to open images.

    Args:
        family: says the input contract.
        network: of that family, with its weights.
        store: where embeddings are kept; by default 1 GiB of memory.
        device: where the network runs; by default the first GPU, or the CPU where there is none.
        engine: what runs it: "torch", "openvino", or "auto", which is OpenVINO where it is installed and known to be
            faster (``bundle.engines.choice``).

    Raises:
        EngineError: the engine cannot run this network here.
    """

    def __init__(
        self,
        family: Family,
        network: PromptableNetwork,
        *,
        store: PreparedCache | None = None,
        device: torch.device | str | None = None,
        engine: str = "auto",
    ) -> None:
        self.family = family
        device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        self.predictor = SlicePredictor(
            network, family.contract, store=store or PreparedCache(), device=device, engine=engine
        )

    @property
    def engine(self) -> str:
        """What runs the network: "torch" or "openvino"."""
        return self.predictor.engine

    @classmethod
    def from_family(
        cls,
        name: str | Path = "default",
        *,
        checkpoint: str | Path | None = None,
        store: PreparedCache | None = None,
        device: torch.device | str | None = None,
        engine: str = "auto",
    ) -> Segmenter:
        """Load a family by name, or from a JSON file of your own.

        Raises:
            FamilyError: if there is no such family, or its weights are not on this machine.
            CheckpointError: if the checkpoint does not fit the family.
            EngineError: if the engine cannot run it here.
        """
        family = load_family(name)
        network = build_network(family, checkpoint=checkpoint)
        return cls(family, network, store=store, device=device, engine=engine)

    def open(self, volume: Volume, *, journal: Journal | None = None) -> InteractiveSession:
        """Start working on a volume, or go on where a journal ends.

        Raises:
            JournalError: the journal cannot be used.
        """
        return InteractiveSession(volume, self.predictor, journal=journal)
