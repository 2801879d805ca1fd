"""Labelled slices and stacks of slices as the dictionaries that MONAI's transforms change, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.data.labelled_slice import LabelledSlice, LabelledStack
from bundle.data.labels import as_int16
from bundle.transforms.contract import Contract
from bundle.transforms.network_input import NetworkInputd

Labelled = LabelledSlice | LabelledStack
Preprocessing = Callable[[dict[str, Any]], Mapping[str, Any]]


def input_of_contract(contract: Contract) -> NetworkInputd:
    """The preprocessing of a training that names no other: the whole slice in the contract's square."""
    return NetworkInputd("image", contract, label_keys="label")


def network_input(labelled: Labelled, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """The image (3, S, S) and label map (S, S) int16 of a slice; of a stack (3, D, S, S) and (D, S, S).

    Args:
        labelled: the slice, or a stack whose slices are of one volume.
        preprocessing: takes ``as_dictionary``'s dictionary and turns ``image`` and ``label`` into the network's input.
    """
    data = preprocessing(as_dictionary(labelled))
    return torch.as_tensor(data["image"]), torch.as_tensor(data["label"])[0]


def as_dictionary(labelled: Labelled) -> dict[str, Any]:
    """``image`` (C, H, W) and ``label`` (1, H, W) int16, or (C, D, H, W) and (1, D, H, W); ``intensity``, the views of
    the contract; and ``pixel_spacing`` (dy, dx) in mm.
    """
    if isinstance(labelled, LabelledStack):
        parts = [as_dictionary(part) for part in labelled.slices]
        arrays = {key: np.stack([part[key] for part in parts], axis=1) for key in ("image", "label")}
        return {**parts[0], **arrays}
    image = labelled.picture
    return {
        "image": image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0),
        "label": as_int16(labelled.labels, labelled.key)[None],
        "intensity": labelled.intensity,
        "pixel_spacing": labelled.pixel_spacing,
    }


def for_augmentation(labelled: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Picture and labels as (C, H, W), where C is 1 and 1, 3 colours and 1, or the slices of a stack."""
    if isinstance(labelled, LabelledStack):
        return np.stack([s.picture for s in labelled.slices]), np.stack([s.labels for s in labelled.slices])
    picture = labelled.picture
    return picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1), labelled.labels[None]


def augmented(labelled: Labelled, image: np.ndarray, label: np.ndarray) -> Labelled:
    if isinstance(labelled, LabelledStack):
        parts = zip(labelled.slices, image, label, strict=True)
        return LabelledStack(tuple(replace(part, picture=p, labels=truth) for part, p, truth in parts))
    picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    return replace(labelled, picture=picture, labels=label[0])
