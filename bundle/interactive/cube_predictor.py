"""Prompts of a volume in, logits of a cube out: the network of volumes behind its contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bundle.data.volume import Volume
from bundle.engines.cache import network_identity
from bundle.engines.choice import computes_in_bfloat16
from bundle.engines.interruption import watch
from bundle.networks.prompted_unet_3d import PromptedUNet3D, answer_so_far
from bundle.prompts.cube_maps import SO_FAR, draw_on_cube
from bundle.prompts.interactions import Interaction
from bundle.transforms.contract import Contract, Intensity
from bundle.transforms.cube import Cube

ABSENT = -20.0  # logit of what lies outside of a cube that was answered


@dataclass(frozen=True, eq=False)
class VolumeView:
    """A volume as a cube predictor needs it.

    Attributes:
        volume: the image.
        intensity: the contract's views of it.
    """

    volume: Volume
    intensity: Intensity


@dataclass(frozen=True, eq=False)
class CubeAnswer:
    """The answer for one object in one cube.

    Attributes:
        cube: that was looked at.
        logits: (S, S, S) float32; a mask is ``logits > 0``.
        iou: the network's own estimate of the mask's IoU.
    """

    cube: Cube
    logits: Tensor
    iou: float

    @cached_property
    def mask(self) -> np.ndarray:
        """(S, S, S) bool."""
        return (self.logits > 0).numpy()

    def extent(self) -> np.ndarray | None:
        """(2, 3) lowest and highest voxel index of the mask, float; None of an empty one."""
        if not self.mask.any():
            return None
        found = [np.flatnonzero(self.mask.any(axis=tuple(o for o in range(3) if o != axis))) for axis in range(3)]
        corners = self.cube.to_voxels(np.array([[f[0] - 0.5 for f in found], [f[-1] + 0.5 for f in found]]))
        return np.sort(corners, axis=0)


class CubePredictor:
    """A network of volumes with its contract.

    Args:
        network: in eval mode.
        contract: of the network's family.
        device: where the network runs.
    """

    def __init__(self, network: PromptedUNet3D, contract: Contract, *, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.network, self.contract = network.to(self.device).eval(), contract
        watch(self.network)
        self.identity = network_identity(network)
        self.bfloat16 = network.spec.bfloat16 and computes_in_bfloat16(self.device)
        if self.bfloat16:
            self.network.to(memory_format=torch.channels_last_3d)

    @property
    def cells(self) -> int:
        """S, along a side of its cubes."""
        return self.network.spec.mask_size

    @property
    def computation(self) -> str:
        """What its answers depend on beside contract and prompts: weights and precision."""
        return f"{self.identity} {'bfloat16' if self.bfloat16 else 'float32'}"

    def view(self, volume: Volume) -> VolumeView:
        """A volume with the contract's views of it."""
        return VolumeView(volume, self.contract.intensity(volume.array, volume.modality))

    def predict(
        self, view: VolumeView, cube: Cube, interactions: Sequence[Interaction], so_far: Tensor | None = None
    ) -> CubeAnswer:
        """Look at a cube once.

        Args:
            view: of the volume.
            cube: of ``cells`` cells along a side.
            interactions: valid for the volume.
            so_far: (S, S, S) logits of an answer to go on from; None without one.
        """
        maps = torch.from_numpy(draw_on_cube(interactions, cube))[None]
        if so_far is not None:
            maps[0, SO_FAR] = answer_so_far(so_far)
        image = self._image(view, cube)[None]
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            prepared = self.network.prepare(image.to(self.device))
            answer = self.network.predict(prepared, maps.to(self.device))
        return CubeAnswer(cube, answer.logits[0, 0].float().cpu(), float(answer.iou[0, 0]))

    def _image(self, view: VolumeView, cube: Cube) -> Tensor:
        """(3, S, S, S) float32, normalised."""
        array = view.volume.array
        channels = [array] if array.ndim == 3 else list(np.moveaxis(array, 3, 0))
        seen = np.stack([cube.sample(channel).numpy() for channel in channels])
        shown = torch.from_numpy(np.stack(self.contract.apply_views(seen, view.intensity)))
        shown = shown if len(shown) == 3 else shown.expand(3, -1, -1, -1)
        mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (self.contract.mean, self.contract.std))
        return (shown - mean) / std
