"""Learning a structure without forgetting the others: what nobody labelled has to be answered as before.

Li and Hoiem 2016 (Learning without Forgetting) train on the new task and, on the same images, on what the network
answered before. Here every prompt is a task of its own, so the answers that are kept are those to prompts anywhere: on
generated patients, and on places of the user's own images that nobody labelled.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.data.labelled_slice import LabelledSlice
from bundle.data.synthetic.regions import region_pool
from bundle.networks.interface import MaskPrediction, PromptableNetwork
from bundle.prompts.batch import PromptBatch
from bundle.training.batches import SampleBatch
from bundle.training.losses import LossTerms, PromptLoss
from bundle.training.objectives import IterativeObjective

NOBODY_LOOKED: tuple[int, ...] = ()
"""``annotated`` of a slice whose objects are places to ask for, and no truth."""
_SLICES = 24  # of the user's images in which regions are looked for, which takes up to half a second each
_MIN_PIXELS = 20  # of a region beside the labels, as of an object (``cut_slices``)


def frozen_copy(network: PromptableNetwork) -> PromptableNetwork:
    """The network as it is now, which does not train."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def places_to_keep(generated: Sequence[LabelledSlice], labelled: Sequence[LabelledSlice]) -> list[LabelledSlice]:
    """Slices with places to ask for: the organs of generated patients, and grey regions beside what is labelled.

    Args:
        generated: whose objects are such places.
        labelled: the user's slices, of which some are taken; those in colour have no grey regions.
    """
    some = labelled[:: -(-len(labelled) // _SLICES) or 1]
    truth = {(one.patient, f"{one.key}-regions"): one.labels for one in some}
    beside = [_without(region, truth[region.patient, region.key] > 0) for region in region_pool(some)]
    return [replace(one, annotated=NOBODY_LOOKED) for one in [*generated, *beside] if one.ids]


def _without(regions: LabelledSlice, labelled: np.ndarray) -> LabelledSlice:
    """What of the regions lies outside of a mask (H, W)."""
    labels = np.where(labelled, 0, regions.labels)
    return replace(regions, labels=labels, ids=tuple(i for i in regions.ids if (labels == i).sum() >= _MIN_PIXELS))


class LearningWithoutForgetting(IterativeObjective):
    """Labelled objects are learnt; prompts on what nobody looked for are to be answered as they were before.

    Args:
        loss: of one round, and of the difference between two answers.
        before: the network as it was, from ``frozen_copy``.
        keep: weight of an answer that is kept beside a labelled object's.
        options: as ``IterativeObjective``.
    """

    def __init__(self, loss: PromptLoss, *, before: PromptableNetwork, keep: float = 1.0, **options: Any) -> None:
        super().__init__(loss, **options)
        self.before, self.keep = before, keep

    def score(self, prediction: MaskPrediction, prompts: PromptBatch, batch: SampleBatch) -> LossTerms:
        """The loss of a round: labelled objects by their truth, the others by the answer of the network before."""
        numbers = [number for number, known in enumerate(batch.annotated) if known == NOBODY_LOOKED]
        images = torch.tensor(numbers, dtype=torch.long, device=batch.image_index.device)
        kept = torch.isin(batch.image_index, images)
        if not kept.any():
            return super().score(prediction, prompts, batch)
        asked = replace(_chosen(prompts, kept), image_index=torch.searchsorted(images, batch.image_index[kept]))
        with torch.no_grad():
            answer = self.before.predict(self.before.prepare(batch.images[images]), asked)
        same = self.loss.difference(_chosen(prediction, kept), answer)
        same = LossTerms(self.keep * same.total, same.mask, same.iou)
        if kept.all():
            return same
        learnt = self.loss(_chosen(prediction, ~kept), batch.masks[~kept])
        return LossTerms.mean([learnt, same], [int((~kept).sum()), int(kept.sum())])


def _chosen(of_objects: Any, chosen: Tensor) -> Any:
    """A PromptBatch or MaskPrediction of some of its objects, (N,) bool."""
    rows = {field.name: getattr(of_objects, field.name) for field in fields(of_objects)}
    return type(of_objects)(**{name: None if value is None else value[chosen] for name, value in rows.items()})
