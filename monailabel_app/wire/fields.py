"""The wire: the one module that knows the parameter names, units and reply fields of every client.

docs/protocol.md is this module in words. Every index on the wire is a voxel index (i, j, k) of the stored image, an
integer being a voxel's centre; nothing is in millimetres, except what Slicer sends as ``slice`` with a ROI alone
(see ``monailabel_app.wire.requests``). Slices are those along the one axis that ``read_axis`` finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.modality import MODALITIES
from bundle.data.volume import Volume
from bundle.interactive.objects import THIRD
from bundle.transforms.frames import PLANES, SliceFrame
from monailabel_app.errors import RequestError
from monailabel_app.wire.numbers import short

# ---- request: prompts -----------------------------------------------------------------------------------------------
FOREGROUND = "foreground"  # Slicer, OHIF, MITK: [[i, j, k], ...]; CVAT: [[x, y], ...]
BACKGROUND = "background"  # the same, off the object
POINTS = "points"  # vista3d dialect of OHIF: [[i, j, k], ...]
POINT_LABELS = "point_labels"  # one number for each of POINTS: 1 object, 0 background, -1 padding
ROI = "roi"  # Slicer: [i0, i1, j0, j1, k0, k1], pairs in either order; CVAT: [x0, y0, x1, y1]
INTERACTIONS = "interactions"  # our own: what bundle.prompts.interactions writes as JSON, in its order
PLANE = "plane"  # "axial", "coronal" or "sagittal": which slices all of the request is about; in a reply, was about
SLICE = "slice"  # Slicer, 2D: index of the slice that is shown, k if no plane is named
LABEL = "label"  # Slicer, OHIF: name of the segment
CLIENT_ID = "client_id"  # Slicer's interface always fills it; a script usually leaves it null
MODALITY = "modality"  # "CT", "other" or "windowed": overrules what the image's file says
RESET_STATE = "reset_state"  # forget what earlier clicks on this segment left behind
SLICE_LIMITS = "limits"  # sam_3d: [first, last] slice that the answer may lie on; as all options with each request
# Lengths in mm, see AnswerOptions: "islands_mm", "holes_mm", "smoothing_mm".
STATISTICS = "statistics"  # whether the reply measures the objects, a switch
SESSION = "session"  # show what the session of this image and user has; no prompts are read, as with all below
UNDO = "undo"  # take the last step back
REDO = "redo"  # do it again
LOCK = "lock"  # a segment's name or several: it stays as it is, nothing is painted over it
UNLOCK = "unlock"  # the same: it may change again
NEW_OBJECT = "new_object"  # the same: begin a segment without prompts
CONFIRM = "confirm"  # {segment's name: slice or slices}: they are right, answers in 3D leave them as they are
UNCONFIRM = "unconfirm"  # the same: they may change again
FILL_BETWEEN = "fill_between"  # a segment's name or several: its slices between confirmed ones are filled
# No segment's own key in the deepedit dialect.
OWN_KEYS = (FOREGROUND, BACKGROUND, POINTS, POINT_LABELS, ROI, INTERACTIONS)

# ---- request: which image --------------------------------------------------------------------------------------------
SERIES = "series"  # of several DICOM series or scans: UID, UID:N or :N

# ---- request: form of the reply -------------------------------------------------------------------------------------
RESULT_EXTENSION = "result_extension"
RESULT_DTYPE = "result_dtype"
RESULT_COMPRESS = "result_compress"

EXTENSIONS = (".nrrd", ".nii.gz", ".nii", ".mha", ".png")
DTYPES = ("uint8", "uint16", "uint32", "int16", "int32")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

# ---- put into the request by the server, never by a client ----------------------------------------------------------
IMAGE = "image"  # path of the image
IMAGE_KEY = "image_key"  # identity of an uploaded image: a digest of its content
PAINTED = "painted"  # path of a label map that came along, as Slicer's scribbles panel sends one
USER = "user"  # who is logged in

# ---- reply ----------------------------------------------------------------------------------------------------------
LABEL_NAMES = "label_names"  # name -> value in the file
LATENCIES = "latencies"  # seconds of each stage
PREDICTED_IOU = "predicted_iou"  # name -> {slice index: the model's own estimate, 0..1}
USED = "used"  # name -> {kind of interaction: how many of them the answer was asked with}
SLICE_INDEX = "slice"  # 2D: the slice that was answered, or null
ENCODED_SLICES = "encoded_slices"  # how many slices ran the encoder; 0 when all were remembered
MEASURED = "statistics"  # name -> {"ml", "long_axis_mm", ...}, where it was asked for
ENGINE = "engine"  # what ran the network: "torch" or "openvino"
WARNINGS = "warnings"  # name -> [sentence]: why the answer is doubtful


@dataclass(frozen=True)
class ReplyFormat:
    """The file that a client wants: its ending, integer type, and whether it may be compressed."""

    extension: str
    dtype: np.dtype
    compress: bool

    @classmethod
    def of(cls, params: Mapping[str, Any], image: Path) -> ReplyFormat:
        """Read the wish from a request; what it leaves open follows from the image.

        MITK and CVAT name no extension: MITK expects NIfTI for the NIfTI that it sent, CVAT any picture.

        Raises:
            RequestError: an extension or type that cannot be written.
        """
        extension = str(params.get(RESULT_EXTENSION) or _default_extension(image)).lower()
        extension = extension if extension.startswith(".") else f".{extension}"
        if extension not in EXTENSIONS:
            raise RequestError(f"{RESULT_EXTENSION} must be one of {', '.join(EXTENSIONS)}, got {extension!r}")
        dtype = params.get(RESULT_DTYPE) or "uint8"
        if dtype not in DTYPES:
            raise RequestError(f"{RESULT_DTYPE} must be one of {', '.join(DTYPES)}, got {dtype!r}")
        return cls(extension, np.dtype(dtype), read_flag(params, RESULT_COMPRESS))


def _default_extension(image: Path) -> str:
    name = image.name.lower()
    if name.endswith(_PICTURES):
        return ".png"
    return ".nii.gz" if name.endswith((".nii", ".nii.gz")) else ".nrrd"


def read_axis(params: Mapping[str, Any], volume: Volume) -> int:
    """The stored axis whose slices a request is about: those nearest to the plane that it names, else the third.

    The clients of MONAI Label name none and place slices along the third axis, whatever plane that is.

    Raises:
        RequestError: a word that is no plane, or an image that has no slices of that plane.
    """
    plane = params.get(PLANE)
    if plane is None or plane == "":
        return THIRD
    if plane not in PLANES:
        raise RequestError(f"{PLANE} must be one of {', '.join(PLANES)}, got {short(plane)}")
    if not volume.placed:
        raise RequestError(f"this image is a picture that lies nowhere in a patient; leave {PLANE} ({plane}) out")
    frame = SliceFrame.of_plane(volume.shape, volume.affine, plane)
    if min(frame.height, frame.width) == 1:
        raise RequestError(
            f"this image of {volume.shape} voxels is one {plane_of(volume, int(np.argmin(volume.shape)))} slice; "
            f"{plane} ones would be lines of {frame.height} x {frame.width} pixels, so name another {PLANE} or none"
        )
    return frame.slice_axis


def plane_of(volume: Volume, axis: int) -> str | None:
    """The anatomical plane of an image's slices along an axis, the nearest one if they lie obliquely.

    Returns:
        "axial", "coronal" or "sagittal"; None for a picture, which lies nowhere in a patient.
    """
    return SliceFrame.along(volume.shape, volume.affine, axis).plane if volume.placed else None


def read_modality(params: Mapping[str, Any]) -> str | None:
    """What kind of values the image holds, if the client says it.

    Raises:
        RequestError: a word that is not known.
    """
    value = params.get(MODALITY) or None
    if value is not None and value not in MODALITIES:
        raise RequestError(f"{MODALITY} must be one of {', '.join(MODALITIES)}, got {value!r}")
    return value


def read_user(params: Mapping[str, Any]) -> str:
    """Whose session a request works on: who is logged in, else the client by its own name; a script's has none."""
    return str(params.get(USER) or params.get(CLIENT_ID) or "")


def read_flag(params: Mapping[str, Any], name: str) -> bool:
    """A switch as bool, number or the text that Slicer's option table makes of it; absent and null are False.

    Raises:
        RequestError: it is none of these.
    """
    value = params.get(name)
    text = str(value).strip().lower()
    if value is None or text in ("false", "0", "no", ""):
        return False
    if text in ("true", "1", "yes"):
        return True
    raise RequestError(f"{name} must be true or false, got {value!r}")


def reply_params(
    label_names: Mapping[str, int],
    *,
    scores: Mapping[str, Mapping[int, float]],
    seconds: Mapping[str, float],
    encoded: int,
    warnings: Mapping[str, Sequence[str]] | None = None,
    used: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Any]:
    """The JSON part of a reply.

    Args:
        label_names: name -> value in the file.
        scores: name -> {slice index: predicted IoU}.
        seconds: stage -> seconds.
        encoded: slices that ran the encoder.
        warnings: name -> sentences; names without any are left out.
        used: name -> {kind of interaction: how many}.
    """
    return {
        LABEL_NAMES: dict(label_names),
        LATENCIES: {stage: round(float(value), 4) for stage, value in seconds.items()},
        PREDICTED_IOU: {
            name: {str(index): round(min(max(float(score), 0.0), 1.0), 4) for index, score in by_slice.items()}
            for name, by_slice in scores.items()
        },
        ENCODED_SLICES: int(encoded),
        WARNINGS: {name: list(sentences) for name, sentences in (warnings or {}).items() if sentences},
        USED: {name: dict(kinds) for name, kinds in (used or {}).items()},
    }
