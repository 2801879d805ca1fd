"""Prompt protocols of volumes: from one central slice, from a 3D box, and the CVPR 2025 challenge's five clicks.

They run with `protocols.run_protocol` like those of slices; prompts are `ObjectPrompts` in voxel indices `(i, j, k)`,
and the mask prompt is the model's own affair.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from bundle.evaluation.protocols import Interaction, ProtocolError, find_protocol, with_points
from bundle.evaluation.statistics import click_auc, curve
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.simulation import error_point, error_voxel, tight_box

STARTS = ("slice_box", "slice_point", "box", "middle_box", "point")
CVPR25_CLICKS = 5
CVPR25_LEAST_DSC = 0.2
CVPR25_TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class VolumeProtocol:
    """A start, then clicks at the centre of the largest wrong region (26-connected), until nothing is wrong.

    Attributes:
        start: `slice_box` or `slice_point`, on the central slice alone; `box`, the tight 3D box; `middle_box`, the
            challenge's: the range of slices with the tight 2D box of the central one; `point`, the centre of the
            object's largest piece.
        clicks: corrections after the start.
        axis: array axis across which the central slice is cut.
    """

    start: str = "slice_box"
    clicks: int = 0
    axis: int = 2
    mask_prompt = False

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ProtocolError(f"start must be one of {', '.join(STARTS)}, got {self.start!r}")

    def prompts(self, truth: np.ndarray, rng: np.random.Generator) -> Generator[ObjectPrompts, np.ndarray, None]:
        """Up to `clicks` + 1 prompts for the object `truth`, (I, J, K) bool; nothing of it is drawn from `rng`."""
        prompt = self._first(truth)
        for _ in range(self.clicks):
            prediction = yield prompt
            click = error_voxel(truth, prediction)
            if click is None:
                return
            prompt = _with_click(prompt, click)
        yield prompt

    def _first(self, truth: np.ndarray) -> ObjectPrompts:
        if self.start == "point":
            return _with_click(ObjectPrompts(), error_voxel(truth, np.zeros_like(truth)))
        whole = tight_box(truth).reshape(2, 3)
        if self.start == "box":
            return ObjectPrompts(box=whole)
        index = central_slice(truth, self.axis)
        section = truth.take(index, axis=self.axis)
        if self.start == "slice_point":
            column, row, _ = error_point(section, np.zeros_like(section))
            return _with_click(ObjectPrompts(), [*np.insert([row, column], self.axis, index), 1])
        x0, y0, x1, y1 = tight_box(section)
        box = np.insert([[y0, x0], [y1, x1]], self.axis, index, axis=1)
        if self.start == "middle_box":
            box[:, self.axis] = whole[:, self.axis]
        return ObjectPrompts(box=box)


VOLUME_PROTOCOLS: dict[str, VolumeProtocol] = {
    **{start: VolumeProtocol(start) for start in STARTS},
    "clicks_from_slice_box": VolumeProtocol("slice_box", clicks=CVPR25_CLICKS),
    "clicks_from_point": VolumeProtocol("point", clicks=CVPR25_CLICKS),
    "cvpr25": VolumeProtocol("middle_box", clicks=CVPR25_CLICKS),
}
"""By name."""


def volume_protocol_named(name: str) -> VolumeProtocol:
    """One of `VOLUME_PROTOCOLS`, or `clicks_from_point_3` and its like with as many corrections as asked for.

    Raises:
        ProtocolError: there is none of that name.
    """
    found = find_protocol(name, VOLUME_PROTOCOLS)
    if found is None:
        raise ProtocolError(
            f"unknown volume protocol {name!r}; known are {', '.join(VOLUME_PROTOCOLS)}, and clicks_from_point_3 and "
            "its like with another number of corrections"
        )
    return found


def central_slice(truth: np.ndarray, axis: int = 2) -> int:
    """The slice that holds the object's middle voxel along `axis`, as the CVPR 2025 challenge's boxes take it."""
    areas = np.count_nonzero(truth, axis=tuple(other for other in range(truth.ndim) if other != axis))
    return int(np.searchsorted(np.cumsum(areas), areas.sum() // 2, side="right"))


def cvpr25_scores(interactions: Sequence[Interaction]) -> dict[str, float]:
    """The challenge's four numbers of one object: `dsc_auc`, `nsd_auc` (0 to 4), `dsc_final`, `nsd_final`.

    Args:
        interactions: the start and up to 5 clicks; NSD at `CVPR25_TOLERANCE_MM`. NSD counts as 0 up to a DSC of 0.2.
    """
    scores = [interaction.score for interaction in interactions]
    dsc = [score.dsc for score in scores]
    nsd = [score.nsd if score.dsc > CVPR25_LEAST_DSC else 0.0 for score in scores]
    results = {}
    for name, values in (("dsc", dsc), ("nsd", nsd)):
        after_clicks = curve(values, CVPR25_CLICKS + 1)[1:]
        results[f"{name}_auc"] = click_auc(after_clicks)
        results[f"{name}_final"] = float(after_clicks[-1])
    return results


def _with_click(prompt: ObjectPrompts, click: Sequence[float]) -> ObjectPrompts:
    *voxel, label = click
    return with_points(prompt, [voxel], [label])
