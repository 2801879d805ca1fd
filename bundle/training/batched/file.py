"""Slices in flat tensors, in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import torch
from torch import Tensor

from bundle import _moved
from bundle.data.hounsfield import BLACK, FAT, SHOWN
from bundle.data.labelled_slice import LabelledSlice
from bundle.errors import TrainingError
from bundle.files import write_atomically
from bundle.training.batched.slices import SliceTensors, gather_slices, with_half_sizes

_SHIFT = 2**15  # PNG knows no negative numbers
_FORMER = {"pictured": "has_image"}  # names in files that earlier versions wrote


def gather_into(path: str | Path, sources: Mapping[str, Sequence[LabelledSlice]], **options: Any) -> None:
    """Gather slices into a file; arguments as ``gather_slices``."""
    write_slice_tensors(gather_slices(sources, **options), path)


def write_slice_tensors(tensors: SliceTensors, path: str | Path) -> None:
    """Write slices into one file, compressed without loss; beside its place, then renamed."""
    plain = {f.name: getattr(tensors, f.name) for f in fields(tensors)}
    arrays = {name: value.numpy() for name, value in plain.items() if isinstance(value, Tensor)}
    arrays["levels"] = np.repeat(arrays["levels"][:, :1], 2, axis=1)  # half sizes are made when it is read
    arrays["kinds"] = np.where(arrays["kinds"] == FAT, SHOWN, arrays["kinds"])  # what is black tells
    for name, images in _images(arrays).items():
        arrays[name], arrays[f"{name}_ends"] = _encoded(images)
    arrays["about"] = np.frombuffer(json.dumps(tensors.about).encode(), np.uint8)

    def write(partial: str) -> None:
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)

    write_atomically(Path(path), write)


def read_slice_tensors(path: str | Path | BinaryIO) -> SliceTensors:
    """Read what ``write_slice_tensors`` wrote, from its file or from the bytes of it.

    Raises:
        TrainingError: if it is no such file.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {_FORMER.get(name, name): value for name, value in file.items()}
    if "levels" in arrays:  # files of earlier versions hold grey pictures alone
        arrays.setdefault("channels", np.ones(len(arrays["levels"]), np.int64))
    if missing := {f.name for f in fields(SliceTensors)} - set(arrays):
        raise TrainingError(f"{path} holds no slices: {sorted(missing)[0]} is missing; gather them again")
    for name, kind in (("pixels", np.int16), ("kinds", np.uint8), ("labels", np.int16)):
        arrays[name] = _decoded(arrays[name], arrays.pop(f"{name}_ends"), kind)
    windowed = np.zeros(arrays["kinds"].shape, bool)
    for (start, height, width), peak in zip(arrays["levels"][:, 0], arrays["peak"], strict=True):
        windowed[start : start + height * width] = peak > 0
    arrays["kinds"][windowed & (arrays["kinds"] == SHOWN) & (arrays["pixels"] <= BLACK)] = FAT
    about = json.loads(arrays.pop("about").tobytes())
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    return with_half_sizes(SliceTensors(**tensors, about=about))


def _images(arrays: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The flat arrays as images again, each of which ends where the next one starts; colours below each other."""
    full = arrays["levels"][:, 0]
    levels = sorted({(start, c * h, w) for (start, h, w), c in zip(full.tolist(), arrays["channels"], strict=True)})
    images: dict[str, list[np.ndarray]] = {}
    for name in ("pixels", "kinds"):
        images[name] = [arrays[name][start : start + h * w].reshape(h, w) for start, h, w in levels]
    where = zip(arrays["label_offsets"].tolist(), full.tolist(), strict=True)
    images["labels"] = [arrays["labels"][start : start + h * w].reshape(h, w) for start, (_, h, w) in where]
    return images


def _encoded(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(B,) uint8 of files one after the other (PNG of 16 bits, lossless WebP of 8), and where each ends."""
    files = []
    for image in images:
        wide = image.dtype == np.int16 and (image.min() < 0 or image.max() > 255)
        image = (image.astype(np.int32) + _SHIFT).astype(np.uint16) if wide else image.astype(np.uint8)
        how = (".png", (cv2.IMWRITE_PNG_COMPRESSION, 9)) if wide else (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101))
        files.append(cv2.imencode(how[0], image, how[1])[1].ravel())
    return np.concatenate(files), np.cumsum([file.size for file in files])


def _decoded(files: np.ndarray, ends: np.ndarray, kind: type) -> np.ndarray:
    """The images of ``_encoded``, flat again."""
    parts = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        image = cv2.imdecode(files[start:end], cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
        parts.append((image.astype(np.int32) - _SHIFT if image.dtype == np.uint16 else image).astype(kind).ravel())
    return np.concatenate(parts)


__getattr__ = _moved.renamed(__name__)  # former names
