"""Label maps of slices from networks that need no prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from bundle.data.pool import LabelledSlice
from bundle.evaluation.records import EvaluationError
from bundle.inference.store import network_identity
from bundle.transforms.contract import Contract


class AutomaticModel:
    """A semantic network of slices with its contract.

    Args:
        network: (B, 3, S, S) to class logits (B, 1 + len(values), S, S), class 0 being background.
        contract: of the network's family.
        values: label values of the classes 1, 2, ...: as in training, those of the data set's organs in order.
        device: where the network runs.
    """

    def __init__(
        self, network: nn.Module, contract: Contract, *, values: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.network, self.contract = network.to(self.device).eval(), contract
        self.values = np.array([0, *values])
        self.identity = network_identity(network)

    def __call__(self, item: LabelledSlice) -> np.ndarray:
        """The label map (H, W) of a slice.

        Raises:
            EvaluationError: the network has another number of classes.
        """
        placement = self.contract.placement(*item.labels.shape, item.pixel_spacing)
        image = self.contract.to_input(item.picture, item.intensity, placement)
        with torch.inference_mode():
            logits = self.network(image[None].to(self.device)).float().cpu()
        if logits.ndim != 4 or logits.shape[1] != len(self.values):
            raise EvaluationError(
                f"expected logits of {len(self.values)} classes (background and {len(self.values) - 1} organs), "
                f"got {tuple(logits.shape[1:])}; give network_options the number of classes it was trained with"
            )
        return self.values[placement.logits_to_slice(logits)[0].argmax(dim=0).numpy()]
