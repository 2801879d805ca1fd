"""Label maps from networks that need no prompt: of slices, and of volumes slice by slice or in stacks of slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bundle.data.labelled_slices import LabelledSlice
from bundle.data.volume import Volume
from bundle.engines.cache import network_identity
from bundle.errors import EvaluationError
from bundle.networks.semantic import SemanticSam3d
from bundle.transforms.contract import Contract
from bundle.transforms.frames import SliceFrame


class AutomaticModel:
    """A semantic network with its contract.

    Args:
        network: (B, 3, S, S) to class logits (B, 1 + len(values), S, S), or, a `SemanticSam3d`, (B, 3, D, S, S) to
            (B, 1 + len(values), D, S, S); class 0 is background.
        contract: of the network's family.
        values: label values of the classes 1, 2, ...: as in training, those of the data set's organs in order.
        depth: D, slices of a stack that a `SemanticSam3d` was trained with.
        device: where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        contract: Contract,
        *,
        values: Sequence[int],
        depth: int = 16,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network, self.contract = network.to(self.device).eval(), contract
        self.takes_stacks = isinstance(network, SemanticSam3d)
        self.depth = depth if self.takes_stacks else 1
        self.values = np.array([0, *values])
        self.identity = network_identity(network)

    def __call__(self, item: LabelledSlice) -> np.ndarray:
        """The label map (H, W) of a slice.

        Raises:
            EvaluationError: the network has another number of classes, or wants stacks.
        """
        if self.takes_stacks:
            raise EvaluationError(
                "expected a network of slices, got one of stacks of slices; add configs/evaluate_volumes.json for it"
            )
        placement = self.contract.placement(*item.labels.shape, item.pixel_spacing)
        image = self.contract.to_input(item.picture, item.intensity, placement)
        logits = placement.logits_to_slice(self._logits([image]))
        return self._label_map(logits[0])

    def segment_volume(self, volume: Volume, *, axis: int = 2) -> np.ndarray:
        """The label map (I, J, K) of a volume.

        A network of stacks sees overlapping ones, and each slice takes its labels from the stack in whose middle it
        lies nearest. As in training, a volume thinner than a stack is filled up with its last slice.

        Args:
            volume: the image.
            axis: array axis that the slices are stacked along.

        Raises:
            EvaluationError: the network has another number of classes.
        """
        frame = SliceFrame.along(volume.shape, volume.affine, axis)
        intensity = self.contract.intensity(volume.array, volume.modality)
        placement = self.contract.placement(frame.height, frame.width, frame.pixel_spacing(volume.spacing))
        labels = np.zeros(volume.shape, self.values.dtype)
        for start, wanted in stacks(frame.depth, self.depth):
            seen = [min(start + n, frame.depth - 1) for n in range(self.depth)]
            pictures = [frame.extract(volume.array, index) for index in seen]
            logits = self._logits([self.contract.to_input(picture, intensity, placement) for picture in pictures])
            for index in wanted:  # one at a time: the logits of a whole stack at full size would take gigabytes
                full_size = placement.logits_to_slice(logits[index - start][None])[0]
                frame.insert(labels, index, self._label_map(full_size))
        return labels

    def _logits(self, images: Sequence[Tensor]) -> Tensor:
        """Class logits (D, C, S, S) of the (3, S, S) inputs of D slices."""
        batch = torch.stack(tuple(images), dim=1)[None] if self.takes_stacks else torch.stack(tuple(images))
        with torch.inference_mode():
            logits = self.network(batch.to(self.device)).float().cpu()
        logits = logits[0].transpose(0, 1) if self.takes_stacks else logits
        if logits.ndim != 4 or logits.shape[1] != len(self.values):
            raise EvaluationError(
                f"expected logits of {len(self.values)} classes (background and {len(self.values) - 1} organs), "
                f"got {tuple(logits.shape[1:])}; give network_options the number of classes it was trained with"
            )
        return logits

    def _label_map(self, logits: Tensor) -> np.ndarray:
        """(C, H, W) logits to label values (H, W)."""
        return self.values[logits.argmax(dim=0).numpy()]


def stacks(slices: int, depth: int) -> Iterator[tuple[int, list[int]]]:
    """Stacks of `depth` slices, half a stack apart, the last one ending with the volume.

    Yields:
        The first slice of a stack, and the slices whose labels it gives: each slice is given by one stack, in whose
        middle it lies nearest.
    """
    last = max(0, slices - depth)
    starts = np.array(sorted({*range(0, last, max(1, depth // 2)), last}))
    middles = starts + (depth - 1) / 2
    nearest = [int(np.abs(middles - index).argmin()) for index in range(slices)]
    for number, start in enumerate(starts.tolist()):
        wanted = [index for index, stack in enumerate(nearest) if stack == number]
        if wanted:
            yield start, wanted
