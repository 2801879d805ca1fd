"""A network that needs no training: it segments the bright region that it is pointed at."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from bundle.networks.interface import MaskPrediction, ModelSpec, Prepared
from bundle.prompts.batch import PromptBatch
from bundle.prompts.cube_maps import BOX, FLAT_BOX, OFF, ON, SLICE_MASK, SO_FAR
from bundle.transforms.contract import Contract

VIEW = {
    "CT": {"kind": "window", "low": 0, "high": 100},
    "other": {"kind": "window", "low": 0, "high": 100},
    "windowed": {"kind": "identity"},
}


def bright_contract(size: int = 64) -> Contract:
    """A contract whose network input is 0 where the image is dark and 1 where it is bright."""
    return Contract.from_config(
        {
            "size": size,
            "resize": "longest",
            "interpolation": "bilinear",
            "channels": [VIEW],
            "normalise": {"scale": "0-1"},
            "eight_bit": False,
        }
    )


class BrightRegionSam(nn.Module):
    """Same doors as PromptableNetwork. What it prepares is the picture itself; an object is what is brighter than one
    half, connected to a foreground point or inside the box, without the components of background points."""

    spec = ModelSpec(input_shape=(3, 64, 64), mask_size=64)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.encoded = 0
        self.masks_seen: list[bool] = []

    def describe(self, images: Tensor) -> Tensor:
        return self.prepare(images).averaged()

    def prepare(self, images: Tensor) -> Prepared:
        self.encoded += len(images)
        return Prepared({"picture": images[:, 0]})

    def predict(self, prepared: Prepared, prompts: PromptBatch, *, multimask: bool = True) -> MaskPrediction:
        pictures = prepared.of_objects(prompts).tensors["picture"]
        self.masks_seen.append(prompts.masks is not None)
        logits = torch.stack([self._segment(picture, prompts, row) for row, picture in enumerate(pictures)])
        return MaskPrediction(logits[:, None], torch.full((len(logits), 1), 0.9))

    def _segment(self, picture: Tensor, prompts: PromptBatch, row: int) -> Tensor:
        bright = picture.numpy() > 0.5
        components, _ = ndimage.label(bright)
        chosen = bright.copy()
        if prompts.boxes is not None and not torch.isnan(prompts.boxes[row]).any():
            x0, y0, x1, y1 = prompts.boxes[row].round().int().tolist()
            inside = np.zeros_like(bright)
            inside[y0 : y1 + 1, x0 : x1 + 1] = True
            chosen &= inside
        if prompts.points is not None:
            for (x, y), label in zip(
                prompts.points[row].round().int().tolist(), prompts.point_labels[row], strict=True
            ):
                component = (components == components[y, x]) & bright
                if label == 1 and prompts.boxes is None:
                    chosen &= component
                elif label == 0:
                    chosen &= ~component
        return torch.from_numpy(np.where(chosen, 8.0, -8.0)).float()


class BrightCubes(nn.Module):
    """The same in cubes, with the doors of ``PromptedUNet3D``: what is bright and hangs together with the prompts."""

    spec = ModelSpec(input_shape=(3, 32, 32, 32), mask_size=32, keeps_prepared=False)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[np.ndarray] = []

    def prepare(self, images: Tensor) -> Prepared:
        return Prepared({"image": images})

    def predict(self, prepared: Prepared, maps: Tensor) -> MaskPrediction:
        image, maps = prepared.tensors["image"][0, 0].numpy() > 0.5, maps[0].numpy()
        self.seen.append(maps)
        components, _ = ndimage.label(image)
        pointed = np.maximum.reduce([maps[ON], maps[FLAT_BOX], maps[BOX], maps[SLICE_MASK], maps[SO_FAR]]) > 0
        chosen = np.isin(components, np.setdiff1d(components[pointed], [0]))
        chosen &= ~np.isin(components, np.setdiff1d(components[maps[OFF] > 0], [0]))
        chosen &= (maps[BOX] > 0) | ~maps[BOX].any()
        logits = torch.from_numpy(np.where(chosen, 8.0, -8.0)).float()
        return MaskPrediction(logits[None, None], torch.full((1, 1), 0.7))
