"""Model families: which network, input contract and checkpoint a name stands for.

A family is one file ``configs/families/<name>.json``. Nothing in the code knows a family by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from inspect import Signature, signature
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.errors import FamilyError, MonaiSamError
from bundle.families.checkpoints import (
    Checkpoint,
    check_family,
    fitting_weights,
    open_checkpoint,
    read_contract,
    without_optional_parts,
)
from bundle.families.family_files import builder_named, read_family_file, variants_of
from bundle.families.options import agreed_options
from bundle.root import BUNDLE_ROOT, downloads_root
from bundle.transforms.contract import Contract

FAMILIES_FOLDER = BUNDLE_ROOT / "configs" / "families"


@dataclass(frozen=True)
class Family:
    """One row of the table of families.

    Attributes:
        name: the file's stem, as written in configs, checkpoints and requests.
        title: one line for people.
        network_def: ``_target_`` (a builder in ``bundle.families.builders``) and its arguments.
        contract_def: the ``contract`` section, read by ``Contract.from_config``.
        checkpoint: file (relative to the bundle root), url, size in bytes, sha256, licence and citation, or None where
            no weights are published.
        prompts: prompt types that the weights were trained with.
        trainable: patterns (``peft.set_trainable``) of the parameters that the family's published recipe trains.
        start: the family whose weights that recipe starts from, or None.
        volume: the family whose network of volumes helps this one through a volume, or None.
        notes: what to know before choosing it.
    """

    name: str
    title: str
    network_def: Mapping[str, Any]
    contract_def: Mapping[str, Any]
    checkpoint: Mapping[str, Any] | None = None
    prompts: tuple[str, ...] = ("box", "point", "mask")
    trainable: tuple[str, ...] = ("*",)
    start: str | None = None
    volume: str | None = None
    notes: str = ""

    @cached_property
    def contract(self) -> Contract:
        """How an image becomes this family's network input."""
        return Contract.from_config(self.contract_def)

    @property
    def checkpoint_path(self) -> Path | None:
        """Where the family's published weights lie, or would lie, on this machine."""
        if not self.checkpoint:
            return None
        shipped = BUNDLE_ROOT / self.checkpoint["file"]
        return shipped if shipped.is_file() else downloads_root() / self.checkpoint["file"]


def list_families(*, variants: bool = False) -> list[str]:
    """The names of all families, sorted.

    Args:
        variants: name every variant of a family that has them (``finetune_sam-vit_b-lora_both``) beside the family.
    """
    names = []
    for path in FAMILIES_FOLDER.glob("*.json"):
        axes = variants_of(path) if variants else []
        names += [path.stem, *("-".join((path.stem, *choice)) for choice in product(*axes) if choice)]
    return sorted(names)


def load_family(name_or_path: str | Path) -> Family:
    """Read a family by its name, or from a JSON file of your own.

    Args:
        name_or_path: a name from ``list_families(variants=True)``, or a path that ends in ``.json``.

    Raises:
        FamilyError: if there is no such family, or naming the section of the file that is missing or wrong.
    """
    text = str(name_or_path)
    if text.endswith(".json"):
        path, choice = Path(text), []
    elif re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)*", text):
        name, *choice = text.split("-")
        path = FAMILIES_FOLDER / f"{name}.json"
    else:
        raise FamilyError(f"a family's name has only a-z, 0-9, _ and -, got {text!r}")
    if not path.is_file():
        raise FamilyError(
            f"no family {text!r}; known are {', '.join(list_families())}, or give the path of a .json file"
        )
    return _family_from_config(read_family_file(path, choice), path)


def build_network(
    family: Family | str | Path,
    *,
    checkpoint: str | Path | None = None,
    random: bool = False,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a family's network in eval mode: a ``PromptableSam``, or a semantic network.

    A checkpoint of this project says itself which adapters, LoRA and classes its network has; ``options`` need not.

    Args:
        family: a ``Family``, or what ``load_family`` takes.
        checkpoint: weights to load; by default the family's own, where ``scripts/download.py`` puts them.
        random: keep random weights instead of loading any.
        seed: of the random weights.
        options: arguments of the builder that replace those of the family, such as ``{"classes": 14}``.

    Raises:
        FamilyError: if the family's weights are not on this machine, or an option is unknown.
        CheckpointError: if the checkpoint does not fit, or was trained with other options than are given.
    """
    family = family if isinstance(family, Family) else load_family(family)
    if random:
        return _instantiate_network(family, seed, options).eval()
    opened = open_checkpoint(find_weights(family if checkpoint is None else Path(checkpoint)))
    check_family(opened, family)
    _, own, accepted = _builder_of(family)
    own = own if opened.metadata.get("family") == family.name else None
    options = agreed_options(opened.metadata, opened.name, options or {}, own=own, signature=accepted)
    # First without memory: what a checkpoint says of its network is not trusted, but its weights are what they are.
    state = fitting_weights(structure_of(family, options), opened, family)
    network = _instantiate_network(family, seed, options)
    network.load_state_dict(state)
    return network.eval()


def find_weights(source: Family | str | Path) -> Path:
    """The file of weights that someone means: a checkpoint of theirs, or a family's published one.

    Args:
        source: a family or its name; a path, or a name with an ending, is a checkpoint and comes back as it is.

    Raises:
        FamilyError: if the family's weights are not published, or not on this machine.
    """
    if isinstance(source, Path) or (isinstance(source, str) and Path(source).suffix not in ("", ".json")):
        return Path(source)
    family = source if isinstance(source, Family) else load_family(source)
    path = family.checkpoint_path
    if path is None:
        raise FamilyError(f"family {family.name} has no published weights; give a checkpoint of your own")
    if not path.is_file():
        raise FamilyError(
            f"the weights of {family.name} are not at {path}; run `monai-sam download {family.name}`, give a "
            "checkpoint of your own, or train from nothing with `--start '$None'`"
        )
    return path


def recognise_family(checkpoint: Checkpoint | Mapping[str, Tensor]) -> list[str]:
    """The families that a checkpoint can belong to.

    What its metadata says decides; else the names and shapes of its weights, which several families can share (SAM,
    MedSAM and MedicoSAM are the same network).

    Args:
        checkpoint: an opened checkpoint, or a state dict in our layout.

    Returns:
        Names of families, sorted; empty when it fits none.
    """
    metadata, state = {}, checkpoint
    if isinstance(checkpoint, Checkpoint):
        metadata, state = checkpoint.metadata, checkpoint.state_dict
    if metadata.get("family") in list_families(variants=True):
        return [metadata["family"]]
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    known = ((name, _shapes_of(name)) for name in list_families())
    return [name for name, expected in known if without_optional_parts(shapes, expected) == expected]


def family_of_checkpoint(path: str | Path) -> Family:
    """The family of a checkpoint, where its metadata or its weights leave no doubt.

    Raises:
        FamilyError: if it fits none or several families, naming them.
        CheckpointError: if the file cannot be opened.
    """
    names = recognise_family(open_checkpoint(path))
    if len(names) != 1:
        choices = ", ".join(names or list_families())
        fits = "several families that differ in their input contract" if names else "no family"
        raise FamilyError(f"{Path(path).name} fits {fits}; say which one it is: {choices}")
    return load_family(names[0])


def structure_of(family: Family, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A family's network on the meta device: names, shapes and counts at once, without weights or memory."""
    with torch.device("meta"):
        return _instantiate_network(family, options=options)


@cache
def _shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in structure_of(load_family(name)).state_dict().items()}


def _instantiate_network(family: Family, seed: int = 0, options: Mapping[str, Any] | None = None) -> nn.Module:
    builder, own, accepted = _builder_of(family)
    arguments = {**own, **(options or {})}
    if unknown := set(arguments) - set(accepted.parameters):
        raise FamilyError(f"{family.network_def['_target_']} has no option {sorted(unknown)[0]!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return builder(**arguments)
        except MonaiSamError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise FamilyError(f"the network of {family.name} cannot be built like that: {error}") from error


def _builder_of(family: Family) -> tuple[Callable[..., nn.Module], dict[str, Any], Signature]:
    """The function that a family's network is built by, the family's own arguments for it, and all it takes."""
    builder = builder_named(family.network_def.get("_target_"), family.name)
    own = {key: value for key, value in family.network_def.items() if not key.startswith("_")}
    return builder, own, signature(builder)


def _family_from_config(config: Mapping[str, Any], path: Path) -> Family:
    family = Family(
        name=config["name"],
        title=config["title"],
        network_def=config["network_def"],
        contract_def=config["contract"],
        checkpoint=config.get("checkpoint"),
        prompts=tuple(config.get("prompts", ("box", "point", "mask"))),
        trainable=tuple(config.get("trainable", ("*",))),
        start=config.get("start"),
        volume=config.get("volume"),
        notes=config.get("notes", ""),
    )
    read_contract(family.contract_def, f"the contract of {path.name}", FamilyError)
    return family
