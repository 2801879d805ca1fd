"""How an image becomes a network input: the preprocessing contract of a model family.

A contract is data (the ``contract`` section of ``configs/families/<name>.json``). Training, evaluation, inference and
the app all call :meth:`Contract.intensity` once per volume and :meth:`Contract.to_input` once per slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.errors import ContractError
from bundle.transforms.crop import Zoom
from bundle.transforms.placement import BOX_MAPPINGS, INTERPOLATIONS, RESIZE_RULES, Placement

MODALITIES = ("CT", "other", "windowed")
_RULE_KEYS = {
    "window": {"low", "high"},
    "level": {"level", "width"},
    "percentile": {"low", "high"},
    "identity": set(),
}


@dataclass(frozen=True)
class View:
    """One linear map of intensity to 0..255: ``low`` becomes 0, ``high`` 255, the rest is clipped.

    With ``keep_zero`` a voxel of exactly 0 stays 0, as MedSAM does with the empty background of MR.
    """

    low: float
    high: float
    keep_zero: bool = False

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Map intensities of any shape to float32 in 0..255."""
        scaled = np.clip((values.astype(np.float32) - self.low) * (255.0 / (self.high - self.low)), 0.0, 255.0)
        return np.where(values == 0, np.float32(0), scaled) if self.keep_zero else scaled


Intensity = tuple[View, ...]
"""The views of one volume, one (copied to three channels) or three."""


@dataclass(frozen=True)
class Contract:
    """The input contract of one family.

    Attributes:
        size: side of the model square in pixels.
        resize: rule of :meth:`Placement.of`.
        aspect: ``pixels`` takes slice pixels as square, ``physical`` keeps the aspect in mm.
        interpolation: how the image is resized (labels and masks are always nearest neighbour).
        channels: one or three views, each a rule per modality (CT, other, windowed).
        eight_bit: round the views down to 8 bits before resizing, for the families trained on 8-bit pictures.
        slice_minmax: stretch each resized slice to its own minimum and maximum (MedSAM).
        mean, std: (3,) per channel, in units of 0..255.
        zoom: how the window around an object is chosen; None always shows the whole slice.
        box_mapping: rule of :meth:`Placement.box_to_square`.
    """

    size: int
    resize: str
    aspect: str
    interpolation: str
    channels: tuple[Mapping[str, Mapping[str, Any]], ...]
    eight_bit: bool
    slice_minmax: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    zoom: Zoom | None = None
    box_mapping: str = "inclusive"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Contract:
        """Read the ``contract`` section of a family file.

        Raises:
            ContractError: naming the key, the value and what is allowed.
        """
        needed = {"size", "resize", "interpolation", "channels", "normalise"}
        known = needed | {"aspect", "eight_bit", "slice_minmax", "zoom", "box_mapping"}
        config = {key: value for key, value in config.items() if key != "_desc_"}
        if unknown := sorted(set(config) - known):
            raise ContractError(f"unknown contract key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        if missing := sorted(needed - set(config)):
            raise ContractError(f"contract lacks the key {missing[0]!r}")
        channels = tuple(config["channels"])
        if len(channels) not in (1, 3):
            raise ContractError(f"contract needs 1 or 3 channels, got {len(channels)}")
        for channel in channels:
            _check_channel(channel)
        _check_choice("resize", config["resize"], RESIZE_RULES)
        _check_choice("interpolation", config["interpolation"], INTERPOLATIONS)
        _check_choice("aspect", config.get("aspect", "pixels"), ("pixels", "physical"))
        _check_choice("box_mapping", config.get("box_mapping", "inclusive"), BOX_MAPPINGS)
        mean, std = _mean_std(config["normalise"])
        return cls(
            size=int(config["size"]),
            resize=config["resize"],
            aspect=config.get("aspect", "pixels"),
            interpolation=config["interpolation"],
            channels=channels,
            eight_bit=bool(config.get("eight_bit", True)),
            slice_minmax=bool(config.get("slice_minmax", False)),
            mean=mean,
            std=std,
            zoom=_zoom(config.get("zoom")),
            box_mapping=config.get("box_mapping", "inclusive"),
        )

    def intensity(self, array: np.ndarray, modality: str) -> Intensity:
        """The views of one volume: windows are fixed, percentiles are those of all voxels of ``array`` (any shape).

        Raises:
            ContractError: for a modality that is not CT, other or windowed.
        """
        _check_choice("modality", modality, MODALITIES)
        views: dict[str, View] = {}
        for channel in self.channels:
            rule = channel[modality]
            if str(rule) not in views:  # percentiles of a large volume take a second; channels often share them
                views[str(rule)] = _view(rule, array)
        return tuple(views[str(channel[modality])] for channel in self.channels)

    def placement(
        self,
        height: int,
        width: int,
        pixel_spacing: tuple[float, float] = (1.0, 1.0),
        *,
        around: np.ndarray | None = None,
    ) -> Placement:
        """Where a slice lies in the square.

        Args:
            height, width: of the slice in pixels.
            pixel_spacing: (dy, dx) in mm.
            around: (4,) box (x0, y0, x1, y1) of what is looked for; a family that zooms then places the window around
                it, any other the whole slice.
        """
        spacing = pixel_spacing if self.aspect == "physical" else (1.0, 1.0)
        zoomed = self.zoom is not None and around is not None
        window = self.zoom.window(around, height, width, spacing) if zoomed else None
        return Placement.of(
            height,
            width,
            size=self.size,
            rule=self.resize,
            pixel_spacing=spacing,
            window=window,
            box_mapping=self.box_mapping,
        )

    def to_input(self, picture: np.ndarray, intensity: Intensity, placement: Placement) -> Tensor:
        """Turn one slice into the network input.

        Args:
            picture: (H, W) intensities of the volume, or (H, W, 3) colour.
            intensity: the views of its volume.
            placement: where it lies in the square.

        Returns:
            (3, size, size) float32, normalised; padding is 0 after normalisation, as in segment-anything.
        """
        content = placement.image_to_content(self._eight_bit_or_float(picture, intensity), self.interpolation)
        content = content.astype(np.float32)
        if self.slice_minmax:
            low, high = content.min(), content.max()
            content = (content - low) * (255.0 / max(float(high - low), 1e-8))
        if content.shape[2] == 1:
            content = np.repeat(content, 3, axis=2)
        content = (content - np.float32(self.mean)) / np.float32(self.std)
        return torch.from_numpy(np.ascontiguousarray(placement.pad(content).transpose(2, 0, 1)))

    def apply_views(self, channels: np.ndarray, intensity: Intensity) -> list[np.ndarray]:
        """How the views show an image.

        Args:
            channels: (1, ...) intensities, or (3, ...): colours, or what three views show already.
            intensity: one view or three.

        Returns:
            The three views of the one channel (or the one, where there is no more), or each channel by its own view, or
            all by the one; float32 in 0..255.
        """
        if len(channels) == 1:
            return [view.apply(channels[0]) for view in intensity]
        views = intensity if len(intensity) == 3 else intensity * 3
        return [view.apply(channel) for view, channel in zip(views, channels, strict=True)]

    def _eight_bit_or_float(self, picture: np.ndarray, intensity: Intensity) -> np.ndarray:
        channels = picture[None] if picture.ndim == 2 else np.moveaxis(picture, -1, 0)
        stacked = np.stack(self.apply_views(channels, intensity), axis=-1)
        return stacked.astype(np.uint8) if self.eight_bit else stacked


def _zoom(config: Mapping[str, Any] | None) -> Zoom | None:
    if config is None:
        return None
    known = {field.name for field in fields(Zoom)}
    values = {key: value for key, value in config.items() if key != "_desc_"}
    if unknown := sorted(set(values) - known):
        raise ContractError(f"unknown zoom key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return Zoom(**values)


def _view(rule: Mapping[str, Any], array: np.ndarray) -> View:
    kind = rule["kind"]
    if kind == "window":
        return View(float(rule["low"]), float(rule["high"]))
    if kind == "level":
        return View(rule["level"] - rule["width"] / 2, rule["level"] + rule["width"] / 2)
    if kind == "identity":
        return View(0.0, 255.0)
    nonzero = bool(rule.get("nonzero", False))
    values = array[array > 0] if nonzero else array
    if values.size == 0:
        values = array
    low, high = np.percentile(values, (rule["low"], rule["high"]))
    return View(float(low), float(high) if high > low else float(low) + 1.0, nonzero)


def _check_channel(channel: Mapping[str, Mapping[str, Any]]) -> None:
    for modality in MODALITIES:
        if modality not in channel:
            raise ContractError(f"every channel needs a rule for {', '.join(MODALITIES)}; {modality!r} is missing")
        rule = dict(channel[modality])
        kind = rule.pop("kind", None)
        _check_choice("rule kind", kind, tuple(_RULE_KEYS))
        if wrong := sorted((set(rule) ^ _RULE_KEYS[kind]) - {"nonzero"}):
            raise ContractError(f"rule {kind!r} takes {sorted(_RULE_KEYS[kind])}, got a wrong or missing {wrong[0]!r}")


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ContractError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _mean_std(config: Mapping[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    if config.get("scale") == "0-1":
        return (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)
    try:
        mean, std = (tuple(float(v) for v in np.broadcast_to(config[key], 3)) for key in ("mean", "std"))
    except (KeyError, ValueError) as error:
        raise ContractError('normalise must be {"scale": "0-1"} or {"mean": [r, g, b], "std": [r, g, b]}') from error
    return mean, std
