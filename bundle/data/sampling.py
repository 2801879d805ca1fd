"""Drawing slices so that neither the patient with the most slices nor the largest organ fills the training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from bundle.errors import TrainingError


class BalancedDraw:
    """Draws organ, then patient, then slice, each uniformly among those that have the one before.

    Args:
        patients: (N,) the patient of each slice.
        ids: (N,) the labels present in each slice.

    Raises:
        ValueError: lengths differ.
        TrainingError: no slice has a label.
    """

    def __init__(self, patients: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
        if len(patients) != len(ids):
            raise ValueError(f"patients and ids must have one entry per slice, got {len(patients)} and {len(ids)}")
        tree: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index, (patient, present) in enumerate(zip(patients, ids, strict=True)):
            for organ in present:
                tree[int(organ)][patient].append(index)
        if not tree:
            raise TrainingError("no slice has a label to draw; read the dataset with its labels")
        self._count = len(patients)
        self._organs = {organ: list(by_patient.values()) for organ, by_patient in sorted(tree.items())}

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """The number of a slice and the label to segment in it."""
        organ = list(self._organs)[rng.integers(len(self._organs))]
        slices = self._organs[organ][rng.integers(len(self._organs[organ]))]
        return slices[rng.integers(len(slices))], organ

    def weights(self) -> np.ndarray:
        """(N,) float, the probability of each slice; what ``torch.utils.data.WeightedRandomSampler`` takes."""
        weights = np.zeros(self._count)
        for by_patient in self._organs.values():
            for slices in by_patient:
                weights[slices] += 1 / (len(self._organs) * len(by_patient) * len(slices))
        return weights
