"""monai-sam: Segment Anything for medical images, as a MONAI bundle.

The names below are the public ones; each is imported when it is first used, so that ``import bundle`` costs nothing.

    session = bundle.open("ct.nii.gz")                     # with the shipped model
    liver = session.segment_volume(bundle.ObjectPrompts(box=[[62, 23, 21], [109, 82, 50]]))
    bundle.write_label(liver.mask, session.volume, "liver.nii.gz")
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle import _moved
from bundle.waiting import wait_passively

if TYPE_CHECKING:
    from bundle.interactive.session import InteractiveSession

__version__ = "0.1.0"

_PUBLIC = {
    "Box": "bundle.prompts.interactions",
    "ClipIntensityd": "bundle.transforms.dictionary",
    "IntensityViewsd": "bundle.transforms.dictionary",
    "InteractiveSession": "bundle.interactive.session",
    "Journal": "bundle.interactive.journal",
    "Lasso": "bundle.prompts.interactions",
    "Mask": "bundle.prompts.interactions",
    "fill_between": "bundle.interactive.fill",
    "MonaiSamError": "bundle.errors",
    "NetworkInputd": "bundle.transforms.network_input",
    "ObjectPrompts": "bundle.prompts.prompts",
    "Point": "bundle.prompts.interactions",
    "Scribble": "bundle.prompts.interactions",
    "Segmentation": "bundle.interactive.segmentation",
    "Segmenter": "bundle.interactive.segmenter",
    "Proposal": "bundle.interactive.proposals",
    "SliceBoxd": "bundle.prompts.label_boxes",
    "Update": "bundle.interactive.update",
    "Volume": "bundle.data.volume",
    "VolumeBoxesd": "bundle.prompts.label_boxes",
    "VolumeToSlicesd": "bundle.transforms.dictionary",
    "build_network": "bundle.families.family",
    "list_families": "bundle.families.family",
    "load_family": "bundle.families.family",
    "proposals_of": "bundle.interactive.proposals",
    "read_label": "bundle.data.volume",
    "read_prompts": "bundle.prompts.prompts",
    "read_volume": "bundle.data.volume",
    "write_label": "bundle.data.volume",
    "write_volume": "bundle.data.volume",
}
__all__ = [*sorted(_PUBLIC), "open"]

_moved.install()
wait_passively()  # before PyTorch is imported


def open(
    image: str | Path,
    *,
    family: str | Path = "default",
    checkpoint: str | Path | None = None,
    device: str | None = None,
    modality: str | None = None,
    series: str | None = None,
    sessions: str | Path | None = None,
    user: str = "",
) -> InteractiveSession:
    """Open an image with a model: prompts in voxel indices in, masks on the image's own grid out.

    Args:
        image: a file, or the folder of a DICOM series.
        family: a name of ``list_families()``, or a family's JSON file.
        checkpoint: weights; by default the family's own.
        device: such as "cuda"; by default a GPU where there is one.
        modality: "CT", "other" or "windowed" where the file does not say it right.
        series: which of several DICOM series and scans, see ``read_volume``.
        sessions: a folder that keeps what is done to the image; what it holds already of this image is restored.
        user: whose session that is, where several work on one image.

    Raises:
        MonaiSamError: the image, the family, the weights or the session cannot be used; the message says what would be
            right.
    """
    from bundle.data.volume import read_volume
    from bundle.interactive.journal import Journal
    from bundle.interactive.segmenter import Segmenter

    volume = read_volume(image, modality=modality, series=series)
    journal = None if sessions is None else Journal.of(sessions, volume, user)
    return Segmenter.from_family(family, checkpoint=checkpoint, device=device).open(volume, journal=journal)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'bundle' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
