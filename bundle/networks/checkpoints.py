"""The one door through which checkpoints are opened, loaded and saved.

Files are read with ``torch.load(weights_only=True)`` or safetensors, so a pickle that would run code is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from bundle.networks.families import Family

METADATA_KEY = "monai_sam"
# Where training scripts put the weights inside their file: MedSAM and SAM-Med2D "model", others "state_dict".
_WRAPPERS = ("model", "state_dict", "model_state", "network")
_PREFIXES = ("module.",)
_SHOWN_KEYS = 5


class CheckpointError(ValueError):
    """A file that is not a checkpoint, or not one of this network."""


@dataclass
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        state_dict: parameter name to tensor, on the CPU.
        metadata: what ``save_checkpoint`` wrote (family, contract, labels, recipe, training data); empty for others.
        sha256: of the file.
    """

    state_dict: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read a ``.pth``, ``.pt`` or ``.safetensors`` file without running code from it.

    Unwraps ``{model}``, ``{state_dict}`` and DDP's ``module.`` prefix.

    Raises:
        CheckpointError: if the file is missing, truncated, holds anything but plain weights, or no weights at all.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    state, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), {})
    return Checkpoint(_strip_prefixes(_unwrap(state, path)), metadata, sha256_of(path))


def load_checkpoint(network: nn.Module, path: str | Path, family: Family) -> Checkpoint:
    """Load a checkpoint into a network; every key must fit.

    Args:
        network: of the family.
        path: the file.
        family: whose contract the network will be fed with; a checkpoint of another family is refused.

    Raises:
        CheckpointError: naming missing, unexpected and mis-shaped keys, or the other family.
    """
    checkpoint = open_checkpoint(path)
    _check_family(checkpoint.metadata, family, path)
    if problems := _differences(network.state_dict(), checkpoint.state_dict):
        raise CheckpointError(f"{Path(path).name} does not fit family {family.name}: {'; '.join(problems)}")
    network.load_state_dict(checkpoint.state_dict)
    return checkpoint


def save_checkpoint(
    network: nn.Module, path: str | Path, *, metadata: Mapping[str, Any] | None = None, half: bool = True
) -> Path:
    """Write a network as safetensors with its metadata; the file appears under its name only when it is complete.

    Args:
        network: whose state dict is written.
        path: ends in ``.safetensors``.
        metadata: JSON-able; give at least ``family`` and ``contract`` so that a wrong pairing can be refused.
        half: store matrices and kernels as float16 (half the size); vectors, norms and buffers stay float32.

    Raises:
        CheckpointError: if the path has another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"checkpoints are written as .safetensors, got {path.name}")
    heavy = {name for name, parameter in network.named_parameters() if parameter.ndim >= 2}
    state = {}
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        state[name] = tensor.half() if half and name in heavy else tensor.clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(state, partial, metadata={METADATA_KEY: json.dumps(dict(metadata or {}))})
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return path


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is not a complete safetensors file ({error}); download it again") from error


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path.name} is damaged or holds more than weights, so it was not opened: {reason}"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path.name} is not a complete PyTorch file ({error}); download it again") from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path.name} holds no state dict (parameter names with tensors)")
    return dict(content)


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        while all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _check_family(metadata: Mapping[str, Any], family: Family, path: str | Path) -> None:
    named = metadata.get("family")
    if named is not None and named != family.name:
        raise CheckpointError(
            f"{Path(path).name} belongs to family {named}, not {family.name}; its input contract is another one, "
            f"so use family {named} with it"
        )
    contract = metadata.get("contract")
    if contract is not None and contract != json.loads(json.dumps(family.contract_def)):
        changed = sorted(k for k in {*contract, *family.contract_def} if contract.get(k) != family.contract_def.get(k))
        raise CheckpointError(
            f"{Path(path).name} was trained with another input contract ({', '.join(changed)} differ) than family "
            f"{family.name} has now; give the family file it was trained with"
        )


def _differences(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
    """One phrase for each way in which two state dicts differ."""
    shapes = [
        f"{key} {tuple(got[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in got and got[key].shape != expected[key].shape
    ]
    return [
        f"{len(keys)} {kind}: {', '.join(keys[:_SHOWN_KEYS])}{', ...' if len(keys) > _SHOWN_KEYS else ''}"
        for kind, keys in (
            ("missing", [key for key in expected if key not in got]),
            ("unexpected", [key for key in got if key not in expected]),
            ("mis-shaped", shapes),
        )
        if keys
    ]
