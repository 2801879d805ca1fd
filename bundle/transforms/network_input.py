"""A slice as the input of a network, and its logits as a slice again: the contract as a MONAI dictionary transform."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_numpy, ensure_tuple
from torch import Tensor

from bundle.errors import ContractError, FrameError
from bundle.transforms.contract import Contract, Intensity, View
from bundle.transforms.dictionary import Data, channels_of, like
from bundle.transforms.placement import Placement

_WHITE = 255.0
_SHOWN_AS_IT_IS: Intensity = (View(0.0, _WHITE),)


class NetworkInputd(MapTransform, InvertibleTransform):
    """Turn slices into a network's input by the contract of its family; the inverse brings logits back to the slices.

    An image takes its views from ``intensity`` where ``IntensityViewsd`` left them, and is else taken as shown already,
    0..255 (``ClipIntensityd``). Label maps are placed with it, by nearest neighbour. With a box, a family that zooms is
    shown the window around it, and the box is mapped into the square.

    Args:
        keys: images (C, H, W), or (C, D, H, W) of D slices of one volume, C being 1, the contract's views or 3 colours.
        contract: of the family.
        label_keys: label maps and masks (1, H, W) or (1, D, H, W) of integers or bool.
        box_key: where the data may have a box (4,) of (x0, y0, x1, y1) pixels of the slice, corners inclusive.
        intensity_key, spacing_key: where the views and the pixel spacing are; without a spacing pixels are square.
    """

    def __init__(
        self,
        keys: KeysCollection,
        contract: Contract,
        *,
        label_keys: KeysCollection = (),
        box_key: str = "box",
        intensity_key: str = "intensity",
        spacing_key: str = "pixel_spacing",
    ) -> None:
        super().__init__((*ensure_tuple(keys), *ensure_tuple(label_keys)))
        self.contract, self.label_keys = contract, ensure_tuple(label_keys)
        self.box_key, self.intensity_key, self.spacing_key = box_key, intensity_key, spacing_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Images become tensors (3, S, S) or (3, D, S, S), float32 and normalised; labels (1, S, S) or (1, D, S, S).

        Raises:
            ContractError: an image has a number of channels that the contract does not have, or intensities outside of
                0..255 and no views that would say how they are shown.
            FrameError: an image or label is neither a slice nor slices, or they differ in size.
        """
        changed = dict(data)
        placement = self._placement(data)
        for key in self.key_iterator(changed):
            array = convert_to_numpy(data[key])
            if key in self.label_keys:
                square = _each_slice(placement.mask_to_square, array)
            else:
                square = self._input(channels_of(array, key), placement, data.get(self.intensity_key), key)
            affine = _affine_of_slices(data[key])
            changed[key] = like(
                data[key], square, affine=affine if affine is None else affine @ placement.to_slice_matrix
            )
            self.push_transform(changed, key, extra_info={"placement": placement, "affine": affine})
        if data.get(self.box_key) is not None:
            changed[self.box_key] = placement.box_to_square(convert_to_numpy(data[self.box_key]))
        return changed

    def inverse(self, data: Data) -> dict[Hashable, Any]:
        """Bring back what lies in the square, of any number of channels M, to the slice's pixels.

        Floating-point numbers are logits, (M, h, w) or (M, D, h, w) of any resolution h x w of the square,
        interpolated as SAM's ``postprocess_masks`` does; integers and bool are label maps of S x S, taken by nearest
        neighbour. Outside of a window logits are ``NOT_SEEN`` and labels 0.
        """
        changed = dict(data)
        for key in self.key_iterator(changed):
            info = self.pop_transform(changed, key)["extra_info"]
            placement, value = info["placement"], convert_to_numpy(changed[key])
            if np.issubdtype(value.dtype, np.floating):
                part = _logits_to_slices(torch.from_numpy(value).float(), placement)
            else:
                part = _each_slice(placement.mask_to_slice, value)
            changed[key] = like(changed[key], part, affine=info["affine"])
        return changed

    def _placement(self, data: Data) -> Placement:
        shapes = {key: tuple(data[key].shape) for key in self.key_iterator(dict(data))}
        (first, shape), *others = shapes.items()
        for key, other in ((first, shape), *others):
            if len(other) not in (3, 4) or other[1:] != shape[1:]:
                raise FrameError(
                    f"{key!r} must be a slice (C, H, W) or slices (C, D, H, W) of the size of {first!r}, got shapes "
                    f"{other} and {shape}; VolumeToSlicesd cuts volumes"
                )
        box = data.get(self.box_key)
        around = None if box is None else np.asarray(convert_to_numpy(box))
        spacing = tuple(float(length) for length in data.get(self.spacing_key, (1.0, 1.0)))
        return self.contract.placement(*shape[-2:], spacing, around=around)

    def _input(self, array: np.ndarray, placement: Placement, views: Intensity | None, key: Hashable) -> Tensor:
        if views is None:
            views = _SHOWN_AS_IT_IS
            if array.size and (array.min() < 0 or array.max() > _WHITE):
                raise ContractError(
                    f"{key!r} has values from {array.min():g} to {array.max():g}, beyond 0..255; put "
                    "IntensityViewsd or ClipIntensityd before NetworkInputd"
                )
        slices = [array] if array.ndim == 3 else array.swapaxes(0, 1)  # (C, H, W) each
        pictures = [part[0] if len(part) == 1 else np.moveaxis(part, 0, -1) for part in slices]
        inputs = [self.contract.to_input(picture, views, placement) for picture in pictures]
        return inputs[0] if array.ndim == 3 else torch.stack(inputs, dim=1)


def _each_slice(change: Callable[[np.ndarray], np.ndarray], array: np.ndarray) -> np.ndarray:
    """An array of any leading axes whose slices (H, W) are changed one by one."""
    parts = np.stack([change(part) for part in array.reshape(-1, *array.shape[-2:])])
    return parts.reshape(*array.shape[:-2], *parts.shape[-2:])


def _logits_to_slices(logits: Tensor, placement: Placement) -> Tensor:
    """(M, h, w) or (M, D, h, w) logits to the slices' pixels, slice by slice as a predictor does it."""
    if logits.ndim == 3:
        return placement.logits_to_slice(logits[None])[0]
    return torch.stack([placement.logits_to_slice(part[None])[0] for part in logits.unbind(dim=1)], dim=1)


def _affine_of_slices(value: Any) -> np.ndarray | None:
    """(4, 4) of (C, D, H, W) slices; one slice alone has no affine in space, a plain array none at all."""
    return np.asarray(value.affine, dtype=np.float64) if isinstance(value, MetaTensor) and value.ndim == 4 else None
