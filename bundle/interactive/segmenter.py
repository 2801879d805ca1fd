"""One loaded model, shared by all images that are worked on."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import torch

from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.families.family import Family, build_network, load_family
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.cube_predictor import CubePredictor
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.journal import Journal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from bundle.interactive.volume_model import VolumeModel
from bundle.networks.interface import PromptableNetwork


class Segmenter:
    """A model family with its weights, ready to open images.

    Args:
        family: says the input contract.
        network: of that family, with its weights.
        store: where embeddings are kept; by default 1 GiB of memory.
        device: where the networks run; by default the first GPU, or the CPU where there is none.
        engine: what runs the network of slices: "torch", "openvino", or "auto", which is OpenVINO where it is installed
            and known to be faster (``bundle.engines.choice``).

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
        return cls(family, build_network(family, checkpoint=checkpoint), store=store, device=device, engine=engine)

    @property
    def identity(self) -> str:
        """Tells what answers through a volume from what may answer otherwise.

        Raises:
            FamilyError, CheckpointError: as ``volume_model``.
        """
        about = "" if self.volume_model is None else self.volume_model.identity
        return self.predictor.identity + (about and f" {hashlib.sha256(about.encode()).hexdigest()[:16]}")

    @cached_property
    def volume_model(self) -> VolumeModel | None:
        """Following together with the network of volumes that the family names; None where following is all there is.

        Raises:
            FamilyError: the weights of that network are not on this machine.
            CheckpointError: they do not fit.
        """
        if self.family.volume is None:
            return None
        family = load_family(self.family.volume)
        predictor = CubePredictor(build_network(family), family.contract, device=self.predictor.device)
        return GuidedFollowing(self.predictor, CubeNetwork(predictor))

    def open(self, volume: Volume, *, journal: Journal | None = None) -> InteractiveSession:
        """Start working on a volume, or go on where a journal ends.

        Raises:
            JournalError: the journal cannot be used.
        """
        picture = min(volume.shape) == 1  # there is nothing to see in 3D
        model = None if picture else self.volume_model
        return InteractiveSession(volume, self.predictor, volume_model=model, journal=journal)
