"""Model families: which network, input contract and checkpoint a name stands for.

A family is one file ``configs/families/<name>.json``. Nothing in the code knows a family by its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.utils.module import instantiate

from bundle.networks.checkpoints import load_checkpoint
from bundle.networks.promptable_sam import PromptableSam
from bundle.transforms.contract import Contract

BUNDLE_ROOT = Path(__file__).resolve().parents[2]
FAMILIES_FOLDER = BUNDLE_ROOT / "configs" / "families"
PROMPT_TYPES = ("box", "point", "mask", "none")


class FamilyError(ValueError):
    """A family that does not exist or whose file is wrong."""


@dataclass(frozen=True)
class Family:
    """One row of the table of families.

    Attributes:
        name: the file's stem, as written in configs, checkpoints and requests.
        title: one line for people.
        network_def: ``_target_`` (a builder in ``bundle.networks``) and its arguments.
        contract_def: the ``contract`` section, read by ``Contract.from_config``.
        checkpoint: file (relative to the bundle root), url, size in bytes, sha256, licence and citation, or None where
            no weights are published.
        prompts: prompt types that the weights were trained with.
        notes: what the family's recipe trains and what to know before choosing it.
    """

    name: str
    title: str
    network_def: Mapping[str, Any]
    contract_def: Mapping[str, Any]
    checkpoint: Mapping[str, Any] | None = None
    prompts: tuple[str, ...] = ("box", "point", "mask")
    notes: str = ""
    source: Path | None = field(default=None, compare=False)

    @cached_property
    def contract(self) -> Contract:
        """How an image becomes this family's network input."""
        return Contract.from_config(self.contract_def)

    @property
    def checkpoint_path(self) -> Path | None:
        """Where the family's published weights lie, or would lie, on this machine."""
        return BUNDLE_ROOT / self.checkpoint["file"] if self.checkpoint else None


def list_families() -> list[str]:
    """The names of all families, sorted."""
    return sorted(path.stem for path in FAMILIES_FOLDER.glob("*.json"))


def load_family(name_or_path: str | Path) -> Family:
    """Read a family by its name, or from a JSON file of your own.

    Args:
        name_or_path: a name from ``list_families()``, or a path that ends in ``.json``.

    Raises:
        FamilyError: if there is no such family or the file lacks a section.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".json") else FAMILIES_FOLDER / f"{text}.json"
    if path.suffix == ".json" and not text.endswith(".json") and not re.fullmatch(r"[a-z0-9_]+", text):
        raise FamilyError(f"a family's name has only a-z, 0-9 and _, got {text!r}")
    if not path.is_file():
        raise FamilyError(
            f"no family {text!r}; known are {', '.join(list_families())}, or give the path of a .json file"
        )
    return _family_from_config(json.loads(path.read_text(encoding="utf-8")), path)


def build_network(
    family: Family | str | Path,
    *,
    checkpoint: str | Path | None = None,
    random: bool = False,
    seed: int = 0,
) -> PromptableSam:
    """Build a family's network in eval mode.

    Args:
        family: a ``Family``, or what ``load_family`` takes.
        checkpoint: weights to load; by default the family's own, where ``scripts/download.py`` puts them.
        random: keep random weights instead of loading any.
        seed: of the random weights.

    Raises:
        FamilyError: if the family's weights are not on this machine.
        CheckpointError: if the checkpoint does not fit.
    """
    family = family if isinstance(family, Family) else load_family(family)
    network = _instantiate_network(family, seed)
    if not random:
        load_checkpoint(network, _find_checkpoint(family, checkpoint), family)
    return network.eval()


def _instantiate_network(family: Family, seed: int) -> PromptableSam:
    arguments = {key: value for key, value in family.network_def.items() if key not in ("_target_", "_desc_")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return instantiate(family.network_def["_target_"], "default", **arguments)


def _find_checkpoint(family: Family, checkpoint: str | Path | None) -> Path:
    if checkpoint is not None:
        return Path(checkpoint)
    path = family.checkpoint_path
    if path is None:
        raise FamilyError(f"family {family.name} has no published weights; give a checkpoint of your own")
    if not path.is_file():
        raise FamilyError(
            f"the weights of {family.name} are not at {path}; run `python scripts/download.py {family.name}` "
            "or give a checkpoint of your own"
        )
    return path


def _family_from_config(config: Mapping[str, Any], path: Path) -> Family:
    if missing := [key for key in ("name", "title", "network_def", "contract") if key not in config]:
        raise FamilyError(f"{path.name} lacks the section {missing[0]!r}")
    # The file is data: it may name our builders, nothing else that can be imported.
    target = config["network_def"].get("_target_", "")
    if not target.startswith("bundle.networks."):
        raise FamilyError(f"network_def of {path.name} must have a _target_ in bundle.networks, got {target!r}")
    prompts = tuple(config.get("prompts", ("box", "point", "mask")))
    if unknown := sorted(set(prompts) - set(PROMPT_TYPES)):
        raise FamilyError(f"prompts of {path.name} must be among {', '.join(PROMPT_TYPES)}, got {unknown[0]!r}")
    return Family(
        name=config["name"],
        title=config["title"],
        network_def=config["network_def"],
        contract_def=config["contract"],
        checkpoint=config.get("checkpoint"),
        prompts=prompts,
        notes=config.get("notes", ""),
        source=path,
    )
