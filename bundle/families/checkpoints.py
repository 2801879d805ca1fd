"""The one door through which checkpoints are opened, loaded and saved.

What lies in a file is read by ``bundle.families.checkpoint_files``, which runs nothing from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor, nn

from bundle.errors import CheckpointError, ContractError, MonaiSamError
from bundle.families.checkpoint_files import METADATA_KEY, check_tensors, read_checkpoint_file
from bundle.families.key_maps import to_bundle_layout
from bundle.files import sha256_of, write_atomically
from bundle.networks.tuning.peft import are_tuning_names
from bundle.transforms.contract import Contract

if TYPE_CHECKING:
    from bundle.families.family import Family

# Where training scripts put the weights inside their file: MedSAM and SAM-Med2D "model", micro-sam "model_state".
_WRAPPERS = ("model", "state_dict", "model_state", "network")
# Parts that a checkpoint may hold and a network may do without: prompts are nothing to a semantic network and the
# automatic decoder nothing to a promptable one.
_OPTIONAL_PARTS = ("prompt_encoder", "mask_decoder", "automatic_decoder")
_SHOWN_KEYS = 5


@dataclass
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        state_dict: parameter name, in our layout, to tensor, on the CPU.
        metadata: what ``save_checkpoint`` wrote (family, contract, network options, labels, recipe, training data);
            empty for others. Checked for its types alone.
        sha256: of the file.
        name: of the file.
    """

    state_dict: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    name: str = ""


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read a ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` file of any known project without running code from it.

    A training's ``last.pt`` gives the moving average of its weights; unlike ``best.safetensors`` it has no metadata.

    Raises:
        CheckpointError: if the file is missing, truncated, no checkpoint, holds more than data, or no weights at all.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    content, metadata = read_checkpoint_file(path)
    state = _unwrap(content, path)
    check_tensors(state, path)
    return Checkpoint(state, metadata, sha256_of(path), path.name)


def load_checkpoint(network: nn.Module, path: str | Path, family: Family) -> Checkpoint:
    """Load a checkpoint into a network; every key must fit.

    Args:
        network: of the family.
        path: the file.
        family: whose contract the network will be fed with; a checkpoint of another family is refused unless it was
            trained with the same one.

    Raises:
        CheckpointError: naming missing, unexpected and mis-shaped keys, or the other family or contract.
    """
    checkpoint = open_checkpoint(path)
    network.load_state_dict(fitting_weights(network, checkpoint, family))
    return checkpoint


def fitting_weights(network: nn.Module, checkpoint: Checkpoint, family: Family) -> dict[str, Tensor]:
    """The weights of a checkpoint for a network, which may be one without memory (``families.structure_of``).

    Raises:
        CheckpointError: as ``load_checkpoint``.
    """
    check_family(checkpoint, family)
    expected = network.state_dict()
    state = without_optional_parts(checkpoint.state_dict, expected)
    if problems := _differences(expected, state):
        from bundle.families.family import recognise_family  # families imports this module

        others = [name for name in recognise_family(checkpoint) if name != family.name]
        hint = f"; it looks like {' or '.join(others)}" if others else ""
        if are_tuning_names(state.keys() - expected.keys()):
            hint = "; it has LoRA or adapters and does not say which: give the tuning in network_options"
        raise CheckpointError(f"{checkpoint.name} does not fit family {family.name}: {'; '.join(problems)}{hint}")
    return state


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
    header = {METADATA_KEY: json.dumps(dict(metadata or {}))}
    return write_atomically(path, lambda partial: save_file(state, partial, metadata=header))


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    content = _averaged_weights(content)
    decoder = content.get("decoder_state") if isinstance(content, Mapping) else None
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if isinstance(content, Mapping):
        content = {key: value for key, value in content.items() if key != "decoder_state"}
    if not (_is_state_dict(content) and content and _is_state_dict({} if decoder is None else decoder)):
        raise CheckpointError(f"{path.name} holds no state dict (parameter names with tensors)")
    # micro-sam keeps the automatic decoder beside the SAM, on several GPUs with the shared encoder once more.
    decoder = {key.removeprefix("module."): value for key, value in (decoder or {}).items()}
    decoder = {key: value for key, value in decoder.items() if not key.startswith("encoder.")}
    return {**to_bundle_layout(content), **to_bundle_layout(decoder)}


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _averaged_weights(content: Any) -> Any:
    """Of the state of our own training (``RunState``) the moving average, which is what ``SaveBest`` writes too."""
    objects = content.get("objects") if isinstance(content, Mapping) else None
    average = objects.get("average") if isinstance(objects, Mapping) else None
    if not isinstance(average, Mapping):
        return content
    return {key: value for key, value in average.items() if key != "n_averaged"}


def check_family(checkpoint: Checkpoint, family: Family) -> None:
    """Refuse a checkpoint that names another input contract than a family's.

    Families may share a contract, and a contract may say what another leaves to the defaults.

    Raises:
        CheckpointError: naming the other family, or what differs in the contract.
    """
    metadata, name = checkpoint.metadata, checkpoint.name
    named, contract = metadata.get("family"), metadata.get("contract")
    what = f"{name} was trained with an input contract that"
    if isinstance(contract, Mapping):  # up to version 2.5 contracts said what propagation hands on, which is no input
        contract = {key: value for key, value in contract.items() if key != "carried"}
    trained = None if contract is None else read_contract(contract, what, CheckpointError)
    if trained == family.contract:
        return
    if named is not None and named != family.name:
        raise CheckpointError(
            f"{name} belongs to family {named}, not {family.name}, and does not name the same input "
            f"contract; use family {named} with it"
        )
    if trained is not None:
        changed = [f.name for f in fields(Contract) if getattr(trained, f.name) != getattr(family.contract, f.name)]
        raise CheckpointError(
            f"{name} was trained with another input contract ({', '.join(changed)} differ) than family "
            f"{family.name} has now; give the family file it was trained with"
        )


def read_contract(config: Mapping[str, Any], what: str, kind: type[MonaiSamError]) -> Contract:
    """The contract that a file describes.

    Args:
        config: its ``contract``.
        what: it is, in the words of a message.
        kind: of the error.

    Raises:
        kind: it describes none.
    """
    try:
        return Contract.from_config(config)
    except (ContractError, TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise kind(f"{what} cannot be read: {error}") from error


def without_optional_parts(state: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a checkpoint's weights (name to tensor or shape) the optional parts that a network does not have."""
    present = {name.split(".")[0] for name in expected}
    absent = {part for part in _OPTIONAL_PARTS if part not in present}
    return {name: value for name, value in state.items() if name.split(".")[0] not in absent}


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
