"""What a step of a session did, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bundle.interactive.regions import Box


@dataclass(frozen=True, eq=False)
class Update:
    """What a step did.

    Attributes:
        objects: names of the objects that it touched, as they are called now or were before they were removed.
        box: (2, 3) int, half-open: all masks are as before outside of it; None where none changed.
        labels_box: the same of the label map. It may reach further: where objects overlap, a voxel goes to the surer
            one, also where both masks are as before.
        predicted_iou: name -> slice index -> the network's own estimate, of the slices that it answered (where it
            was asked along several axes, of the last).
        warnings: why the answer is doubtful, a sentence each.
        seconds: stage -> seconds.
        encoded: how many times the encoder had to run.
        predicted: whether the model was asked.
    """

    objects: tuple[str, ...] = ()
    box: Box | None = None
    labels_box: Box | None = None
    predicted_iou: dict[str, dict[int, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    encoded: int = 0
    predicted: bool = False
