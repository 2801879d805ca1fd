"""Starting a network from the weights of another one, as training does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from bundle.errors import CheckpointError
from bundle.families.checkpoints import open_checkpoint

_DEPTH_ADAPTED = re.compile(r"^(image_encoder\.blocks\.\d+)\.block\.")


@dataclass(frozen=True)
class Initialisation:
    """What ``initialise_from`` did with each parameter of the network.

    Attributes:
        loaded: taken as they were.
        resized: position embeddings interpolated to the network's grid.
        kept: not in the checkpoint, of another shape, or skipped; they keep their random values.
        unused: in the checkpoint but not in the network.
    """

    loaded: list[str]
    resized: list[str]
    kept: list[str]
    unused: list[str]


def initialise_from(network: nn.Module, path: str | Path, *, skip: Sequence[str] = ()) -> Initialisation:
    """Start a network from the weights of another one: same names are taken, the rest keeps its random values.

    Position embeddings of another input size are interpolated as SAM-Med2D does (bilinear, and linear for relative
    positions). Unlike ``load_checkpoint`` this asks neither for the same family nor for all keys; it is for training.

    Args:
        network: to be trained.
        path: of the checkpoint.
        skip: shell patterns of names that keep their random values, such as ``mask_decoder.mask_tokens.*``.

    Raises:
        CheckpointError: if the checkpoint has nothing in common with the network.
    """
    source = open_checkpoint(path).state_dict
    targets = network.state_dict()
    # Blocks with adapters along the depth hold the plain ones: medico_sam_3d starts from medico_sam.
    origins = {name: name if name in source else _DEPTH_ADAPTED.sub(r"\1.", name) for name in targets}
    loaded, resized, kept = {}, {}, []
    for name, target in targets.items():
        found = source.get(origins[name])
        if found is None or any(fnmatchcase(name, pattern) for pattern in skip):
            kept.append(name)
        elif found.shape == target.shape:
            loaded[name] = found
        elif ("pos_embed" in name or "rel_pos" in name) and _is_same_but_longer(found, target):
            resized[name] = _resize_positions(found, target)
        else:
            kept.append(name)
    if not loaded:
        raise CheckpointError(f"{Path(path).name} has no parameter in common with the network")
    network.load_state_dict({**loaded, **resized}, strict=False)
    unused = sorted(source.keys() - origins.values())
    return Initialisation(list(loaded), list(resized), kept, unused)


def _is_same_but_longer(source: Tensor, target: Tensor) -> bool:
    """Whether two position embeddings differ in their grid alone, (1, g, g, C) or (2g - 1, C)."""
    return source.ndim == target.ndim in (2, 4) and source.shape[-1] == target.shape[-1]


def _resize_positions(source: Tensor, target: Tensor) -> Tensor:
    """Interpolate ViT positions: absolute (1, g, g, C), or relative (2g - 1, C)."""
    if source.ndim == 4:
        grid = source.float().permute(0, 3, 1, 2)
        grid = F.interpolate(grid, target.shape[1:3], mode="bilinear", align_corners=False)
        return grid.permute(0, 2, 3, 1)
    line = F.interpolate(source.float().T.unsqueeze(0), target.shape[0], mode="linear", align_corners=False)
    return line.squeeze(0).T
