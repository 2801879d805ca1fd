"""Batch inference in MONAI's engine: a case in, a label map on its grid out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from torch import nn
from tqdm import tqdm

from bundle.batch.case_files import CaseFiles
from bundle.batch.cases import BAD_CASE, Case, FailedCase, failed
from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.errors import CaseError, PromptError
from bundle.families.family import Family
from bundle.interactive.answer_options import AnswerOptions
from bundle.interactive.label_map import LabelMap
from bundle.interactive.segmentation import Segmentation
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from bundle.interactive.volume_model import HowFar
from bundle.prompts.label_boxes import DIMENSIONS
from bundle.prompts.prompts import ObjectPrompts


@dataclass
class ObjectResult:
    """What was found of one object.

    Attributes:
        name, label: of the object.
        slices: how many were answered.
        predicted_iou: mean over them of the network's own estimate.
        voxels: of the object in the label map, after overlaps were decided.
        seconds: spent on it.
    """

    name: str
    label: int
    slices: int
    predicted_iou: float
    voxels: int
    seconds: float


@dataclass
class CaseResult:
    """The answer to a case.

    Attributes:
        labels: (I, J, K) unsigned integers on the grid of the image.
        objects: in the order of the prompts.
        contested_voxels: voxels that more than one object claimed.
        seconds: spent in `encode`, `decode` and in all (`total`).
        encoded_slices: how many slices had to run the encoder.
        engine: what ran the network, "torch" or "openvino".
    """

    labels: np.ndarray
    objects: list[ObjectResult] = field(default_factory=list)
    contested_voxels: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    encoded_slices: int = 0
    engine: str = "torch"


class PromptInferer(Inferer):
    """Asks a promptable network all prompts of a case.

    Args:
        family: of the network; says the input contract.
        dimension: 3 segments each object through the volume, 2 only on the slices that its prompts lie on.
        axis: stored axis that slices are stacked along.
        limits: first and last slice along it that an answer through the volume may lie on.
        islands_mm, holes_mm, smoothing_mm: how answers are cleaned, see `AnswerOptions`.
        device: where the network runs.
        store: where embeddings are kept; by default 1 GiB of memory.
        engine: what runs the network, see ``Segmenter``.

    Raises:
        CaseError: on another dimension or axis.
    """

    def __init__(
        self,
        family: Family,
        *,
        dimension: int = 3,
        axis: int = 2,
        device: str | Any = None,
        store: PreparedCache | None = None,
        limits: Sequence[int] | None = None,
        islands_mm: float = 0.0,
        holes_mm: float = 0.0,
        smoothing_mm: float = 0.0,
        engine: str = "auto",
    ) -> None:
        if dimension not in DIMENSIONS:
            raise CaseError(f"dimension must be 2 or 3, got {dimension!r}")
        if axis not in (0, 1, 2):
            raise CaseError(f"axis must be 0, 1 or 2, got {axis!r}")
        self.family, self.dimension, self.axis, self.device, self.engine = family, dimension, axis, device, engine
        self.store = store or PreparedCache()
        self.options = AnswerOptions(
            None if limits is None else tuple(limits),
            axis,
            islands_mm=islands_mm,
            holes_mm=holes_mm,
            smoothing_mm=smoothing_mm,
        )
        self._segmenter: Segmenter | None = None
        self._network: nn.Module | None = None  # of the segmenter, which may run it on another engine

    def __call__(
        self, inputs: Case | FailedCase | CaseFiles, network: nn.Module, *args: Any, **kwargs: Any
    ) -> CaseResult | FailedCase | CaseFiles:
        """Segment all objects of a case; a `FailedCase` where it could not be read, or its prompts do not fit it.

        What is not a `Case` comes back as it is.

        Raises:
            CaseError: the network cannot be prompted.
        """
        segmenter = self._segmenter_of(network)
        if not isinstance(inputs, Case):
            return inputs
        try:
            return self.answer(inputs, segmenter)
        except BAD_CASE as error:
            return failed(inputs.files, error)

    def answer(self, case: Case, segmenter: Segmenter) -> CaseResult:
        """Segment all objects of a case.

        Raises:
            PromptError: naming the object whose prompt cannot be used.
        """
        session = segmenter.open(case.image)
        gathered = LabelMap(case.image.shape)
        objects: list[ObjectResult] = []
        seconds, encoded = Counter({"encode": 0.0, "decode": 0.0, "total": 0.0}), 0
        total = sum(
            slices_of(prompt, case.image.shape, axis=self.axis, dimension=self.dimension) for prompt in case.prompts
        )
        with tqdm(desc=case.files.name, total=total, unit="slice", leave=False, position=1, mininterval=0.5) as bar:
            for _, prompts in groupby(case.prompts, key=lambda prompt: prompt.label):
                parts = list(self._segment(session, list(prompts), bar))
                for prompt, part in parts:
                    gathered.add(part, prompt.label, prompt)
                    seconds.update(part.seconds)
                    encoded += part.encoded
                objects.append(_numbers(parts))
        labels = gathered.labels
        for found in objects:
            found.voxels = int(np.count_nonzero(labels == found.label))
        return CaseResult(labels, objects, gathered.contested_voxels, dict(seconds), encoded, segmenter.engine)

    def _segmenter_of(self, network: nn.Module) -> Segmenter:
        if not network.spec.prompts:
            raise CaseError(f"family {self.family.name} takes no prompts; choose one that does")
        if self._segmenter is None or self._network is not network:
            self._network = network
            self._segmenter = Segmenter(self.family, network, store=self.store, device=self.device, engine=self.engine)
        return self._segmenter

    def _segment(
        self, session: InteractiveSession, prompts: list[ObjectPrompts], bar: tqdm
    ) -> Iterator[tuple[ObjectPrompts, Segmentation]]:
        bar.set_postfix_str(prompts[0].name, refresh=False)
        for prompt in prompts:
            before = bar.n
            try:
                if self.dimension == 3:
                    shown = partial(_advance, bar, before)
                    part = session.segment_volume(prompt, axis=self.axis, options=self.options, progress=shown)
                else:
                    part = session.segment_slice(prompt, axis=self.axis, options=self.options)
                    bar.update(len(part.scores))
            except PromptError as error:
                raise PromptError(f"object {prompt.name!r}: {error}") from error
            yield prompt, part


def _advance(bar: tqdm, before: int, far: HowFar) -> None:
    bar.update(before + far.slices - bar.n)


def slices_of(prompt: ObjectPrompts, shape: Sequence[int], *, axis: int, dimension: int) -> int:
    """How many slices a prompt asks for; without a box through the volume at most all of them."""
    points = np.asarray(prompt.points, dtype=float).reshape(-1, 3)
    if dimension == 2:
        return len(np.unique(np.round(points[:, axis]))) or 1
    if prompt.box is None:
        return shape[axis]
    ends = np.asarray(prompt.box, dtype=float)[:, axis]
    return int(abs(ends[1] - ends[0])) + 1 if ends[0] != ends[1] else shape[axis]


def _numbers(parts: Sequence[tuple[ObjectPrompts, Segmentation]]) -> ObjectResult:
    """The numbers of one object, but for its voxels, which hang on the other objects."""
    first = parts[0][0]
    scores = [iou for _, part in parts for iou in part.scores.values()]
    seconds = sum(part.seconds["total"] for _, part in parts)
    return ObjectResult(first.name, first.label, len(scores), float(np.mean(scores)), 0, seconds)


class CaseEvaluator(SupervisedEvaluator):
    """MONAI's evaluator over cases, which hold no tensors that would have to go to a device.

    Args:
        arguments: as MONAI's SupervisedEvaluator; the loader yields one `Case` at a time.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(prepare_batch=_whole_case, decollate=False, **arguments)


class _Batch(NamedTuple):
    inputs: Case | FailedCase | CaseFiles
    targets: Volume | None


def _whole_case(case: Case | FailedCase | CaseFiles, device: Any, non_blocking: bool, **_: Any) -> _Batch:
    return _Batch(case, case.truth if isinstance(case, Case) else None)
