"""The contract as MONAI dictionary transforms: intensities by modality, and the slices of a volume.

``network_input.py`` goes on from there. Each works on a dictionary of channel-first arrays, NumPy arrays and tensors as
well as ``MetaTensor``, anywhere in a ``monai.transforms.Compose``. They decide nothing of their own: ``Contract``,
``SliceFrame`` and ``Placement`` do.

    volume (1, I, J, K) --VolumeToSlicesd--> slices (1, D, H, W) --NetworkInputd--> input (3, D, S, S)
    mask   (1, I, J, K) <------inverse------ logits (M, D, H, W) <----inverse------ logits (M, D, h, w)

Beside the arrays they read and write these entries, whose names can be changed:

    modality       "CT", "other" or "windowed" (8-bit pictures whose grey values stay), of the image
    affine         (4, 4) voxel index to RAS+ mm, of arrays that are no ``MetaTensor``
    intensity      the contract's views of the volume, where they are not applied yet
    pixel_spacing  (dy, dx) of a slice in mm
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_numpy
from torch import Tensor

from bundle.errors import ContractError, FrameError
from bundle.transforms.contract import Contract
from bundle.transforms.frames import SliceFrame, voxel_sizes

Data = Mapping[Hashable, Any]


class IntensityViewsd(MapTransform):
    """Find how the contract shows the intensities of a volume, and leave the volume as it is.

    The views of a CT are windows in HU, those of other modalities percentiles of all its voxels, so they are found on
    the whole volume; ``NetworkInputd`` applies them to a slice. Of one image, as a data set may need several contracts.

    Args:
        keys: one key, of an image of any shape.
        contract: of a family.
        modality: of every image; None reads it from the data.
        modality_key: where the data say it.
        intensity_key: where the views go.
    """

    def __init__(
        self,
        keys: KeysCollection,
        contract: Contract,
        *,
        modality: str | None = None,
        modality_key: str = "modality",
        intensity_key: str = "intensity",
    ) -> None:
        super().__init__(keys)
        self.contract, self.modality = contract, modality
        self.modality_key, self.intensity_key = modality_key, intensity_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Add the views.

        Raises:
            ContractError: the modality is missing or unknown.
        """
        (key,) = self.keys
        modality = _modality(data, self.modality, self.modality_key)
        return {**data, self.intensity_key: self.contract.intensity(convert_to_numpy(data[key]), modality)}


class ClipIntensityd(MapTransform):
    """Clip the intensities of an image by its modality and scale them to 0..255, as the contract shows them.

    With the default family a CT is clipped to -500..1000 HU (and, in two further channels, to -160..240 and to
    -1024..300 HU), any other modality to its 0.5 and 99.5 percentiles; a "windowed" picture of 8 bits stays as it is.

    Args:
        keys: images (1, ...) or colour (3, ...) of any number of axes.
        contract: of a family.
        modality, modality_key: as in ``IntensityViewsd``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        contract: Contract,
        *,
        modality: str | None = None,
        modality_key: str = "modality",
    ) -> None:
        super().__init__(keys)
        self.contract, self.modality, self.modality_key = contract, modality, modality_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Each image becomes (V, ...) float32 in 0..255, V being the contract's 1 or 3 views, or the colours.

        Raises:
            ContractError: the modality is missing or unknown, or an image has neither 1 nor 3 channels.
        """
        changed = dict(data)
        modality = _modality(data, self.modality, self.modality_key)
        for key in self.key_iterator(changed):
            array = channels_of(convert_to_numpy(data[key]), key)
            views = self.contract.intensity(array, modality)
            changed[key] = like(data[key], np.stack(self.contract.apply_views(array, views)))
        return changed


class VolumeToSlicesd(MapTransform, InvertibleTransform):
    """Cut volumes into their slices, each upright as ``SliceFrame`` shows it; the inverse puts slices back.

    Anatomical planes are found by the affine: that of a ``MetaTensor``, or the one in the data. It is changed along
    with the arrays, and ``pixel_spacing`` is added.

    Args:
        keys: volumes (C, I, J, K) on one grid, such as an image and its label.
        plane: "axial", "coronal" or "sagittal"; in an oblique volume the axis nearest to it is taken.
        axis: instead of a plane, the array axis 0, 1 or 2 that the slices are stacked along.
        affine_key, spacing_key: where the data have the affine of plain arrays, and get the pixel spacing.

    Raises:
        FrameError: for both a plane and an axis, or neither.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        plane: str | None = None,
        axis: int | None = None,
        affine_key: str = "affine",
        spacing_key: str = "pixel_spacing",
    ) -> None:
        super().__init__(keys)
        if (plane is None) == (axis is None):
            raise FrameError(f"slices are cut along one plane or one axis, got plane {plane!r} and axis {axis!r}")
        self.plane, self.axis, self.affine_key, self.spacing_key = plane, axis, affine_key, spacing_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Each volume becomes (C, D, H, W), D upright slices; NumPy arrays are views, nothing is copied.

        Raises:
            FrameError: a volume has not the shape (C, I, J, K), they lie on different grids, or there is no affine.
        """
        changed = dict(data)
        frame, affine = self._frame(data)
        for key in self.key_iterator(changed):
            stack = np.moveaxis(frame.stack(np.moveaxis(convert_to_numpy(data[key]), 0, -1)), -1, 0)
            changed[key] = like(data[key], stack, affine=affine @ frame.to_voxels_matrix)
            self.push_transform(changed, key, extra_info={"frame": frame, "affine": affine})
        if self.affine_key in data:
            changed[self.affine_key] = affine @ frame.to_voxels_matrix
        changed[self.spacing_key] = frame.pixel_spacing(voxel_sizes(affine))
        return changed

    def inverse(self, data: Data) -> dict[Hashable, Any]:
        """Put (C', D, H, W) slices, or logits of them, back into (C', I, J, K) on the volume's own grid."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            info = self.pop_transform(changed, key)["extra_info"]
            frame, stack = info["frame"], convert_to_numpy(changed[key])
            volume = np.empty((*frame.shape, len(stack)), stack.dtype)
            frame.stack(volume)[...] = np.moveaxis(stack, 0, -1)
            changed[key] = like(changed[key], np.moveaxis(volume, -1, 0), affine=info["affine"])
            if self.affine_key in data:
                changed[self.affine_key] = info["affine"]
        return changed

    def _frame(self, data: Data) -> tuple[SliceFrame, np.ndarray]:
        grids = [(key, tuple(data[key].shape), self._affine(data, key)) for key in self.key_iterator(dict(data))]
        for key, shape, _ in grids:
            if len(shape) != 4:
                raise FrameError(f"{key!r} must be a volume (C, I, J, K) with channels first, got the shape {shape}")
        first, shape, affine = grids[0]
        for key, other_shape, other in grids[1:]:
            if other_shape[1:] != shape[1:] or not np.allclose(other, affine, atol=1e-4):
                raise FrameError(
                    f"{key!r} lies on another grid than {first!r}: {other_shape[1:]} and {shape[1:]} voxels, affines "
                    f"{np.round(other, 4).tolist()} and {np.round(affine, 4).tolist()}; resample it first"
                )
        if self.plane is not None:
            return SliceFrame.of_plane(shape[1:], affine, self.plane), affine
        return SliceFrame.along(shape[1:], affine, self.axis), affine

    def _affine(self, data: Data, key: Hashable) -> np.ndarray:
        if isinstance(data[key], MetaTensor):
            return np.asarray(data[key].affine, dtype=np.float64)
        if self.affine_key not in data:
            raise FrameError(
                f"there is no affine of {key!r}; give a MetaTensor, or a (4, 4) array as {self.affine_key!r}"
            )
        return np.asarray(convert_to_numpy(data[self.affine_key]), dtype=np.float64)


def _modality(data: Data, modality: str | None, key: str) -> str:
    if modality is not None:
        return modality
    if key not in data:
        raise ContractError(
            f'the data do not say the modality; add {key!r} ("CT", "other" or "windowed") or give modality='
        )
    return data[key]


def channels_of(array: np.ndarray, key: Hashable) -> np.ndarray:
    """An array whose first axis has 1 or 3 channels.

    Raises:
        ContractError: it has another number.
    """
    if array.shape[0] not in (1, 3):
        raise ContractError(f"{key!r} must have 1 channel or 3, the first axis, got the shape {array.shape}")
    return array


def like(source: Any, array: np.ndarray | Tensor, *, affine: np.ndarray | None = None) -> Any:
    """An array as what it came from: a ``MetaTensor`` with its data and this affine, a tensor, or as it is."""
    if not isinstance(source, Tensor):
        return array
    tensor = torch.as_tensor(array if isinstance(array, Tensor) else np.ascontiguousarray(array), device=source.device)
    if not isinstance(source, MetaTensor):
        return tensor
    made = MetaTensor(tensor).copy_meta_from(source)
    if affine is not None:
        made.affine = torch.as_tensor(affine)
    return made
