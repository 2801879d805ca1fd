"""MedSAM's npz and npy, and zarr groups: arrays are (z, y, x), the spacing is (x, y, z)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bundle.data.formats.stored import LPS_TO_RAS, Stored, checked_spacing, picture_modality, voxel_sizes
from bundle.errors import VolumeError


def read_medsam(path: Path, *, key: str) -> Stored:
    """Read a MedSAM archive's ``imgs`` or ``gts``, or a MedSAM npy.

    Arrays are (D, H, W), (D, H, W, 3), (H, W) or (H, W, 3); ``spacing`` is (x, y, z) mm, 1 where it is absent. Our
    own ``affine`` entry, if there is one, says more. MedSAM's npy pictures are floats in [0, 1]; they come back 8-bit.
    """
    return _from_medsam(_medsam_entries(path, key), key, path)


def _from_medsam(entries: Mapping[str, np.ndarray], key: str, path: Path) -> Stored:
    array = entries[key]
    is_color = array.ndim > 2 and array.shape[-1] == 3
    if array.ndim - is_color == 2:
        array = array[None]
    if array.ndim - is_color != 3:
        raise VolumeError(f"expected (D, H, W) or (D, H, W, 3) in {path}, got shape {array.shape}")
    spacing = checked_spacing(entries.get("spacing", np.ones(3)), path)
    affine = entries.get("affine", LPS_TO_RAS @ np.diag([*spacing, 1.0]))
    array = array.transpose((2, 1, 0, 3)[: array.ndim])
    return Stored(array, affine, picture_modality(array), placed="affine" in entries)


def _medsam_entries(path: Path, key: str) -> dict[str, np.ndarray]:
    if path.suffix.lower() == ".npy":
        array = np.load(path, allow_pickle=False)
        is_unit = array.dtype.kind == "f" and array.size > 0 and array.min() >= 0 and array.max() <= 1
        return {key: np.round(array * 255).astype(np.uint8) if is_unit else array}
    with np.load(path, allow_pickle=False) as archive:
        if key not in archive:
            raise VolumeError(f"expected an entry {key!r} in {path}, got {', '.join(archive) or 'none'}")
        return {name: archive[name] for name in (key, "spacing", "affine") if name in archive}


def write_medsam(stored: Stored, path: Path, *, source: Path | None, compress: bool, key: str) -> None:
    """Write a MedSAM archive, with an ``affine`` entry beside its ``spacing`` so that nothing is lost."""
    entries = {
        key: stored.array.transpose((2, 1, 0, 3)[: stored.array.ndim]),
        "spacing": voxel_sizes(stored.affine),
        "affine": stored.affine,
    }
    (np.savez_compressed if compress else np.savez)(path, **entries)


# --- zarr: the entries of a MedSAM archive with one chunk per slice ---------------------------------------------------


def read_zarr(path: Path, *, key: str) -> Stored:
    """Read ``imgs`` or ``gts`` of a zarr group; ``spacing`` (x, y, z) and, if there, ``affine`` are its attributes."""
    import zarr  # half a second that only its users pay

    group = zarr.open_group(path, mode="r")
    if key not in group:
        raise VolumeError(f"expected an array {key!r} in {path}, got {', '.join(group.array_keys()) or 'none'}")
    placed = {name: np.asarray(group.attrs[name]) for name in ("spacing", "affine") if name in group.attrs}
    array = group[key]
    # One row of chunks after the other: a damaged one is found before room is made for all that the header announces.
    rows = [array[start : start + array.chunks[0]] for start in range(0, array.shape[0], array.chunks[0])]
    return _from_medsam({key: np.concatenate(rows), **placed}, key, path)


def write_zarr(path: Path, arrays: Mapping[str, np.ndarray], **attributes: object) -> None:
    """Write (D, H, W[, 3]) arrays as a zarr group, one compressed chunk per slice."""
    import zarr

    group = zarr.open_group(path, mode="w")
    for name, array in arrays.items():
        group.create_array(name, data=array, chunks=(1, *array.shape[1:]))
    group.attrs.update(attributes)
