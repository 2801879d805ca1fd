"""Former names of modules and of what is in them, which keep working: each gives what took its place.

Two tables instead of a file of aliases for each. A name leaves them when its last user has moved.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "bundle.batch.measures": "bundle.interactive.measures",
    "bundle.data.layouts": "bundle.data.datasets",
    "bundle.data.looks": "bundle.data.augmentation",
    "bundle.data.phantom": "bundle.data.synthetic.phantom",
    "bundle.data.pool": "bundle.data.labelled_slices",
    "bundle.inference.predictor": "bundle.interactive.slice_model",
    "bundle.inference.segmenter": "bundle.interactive.segmenter",
    "bundle.inference.session": "bundle.interactive.session",
    "bundle.networks.build": "bundle.families.builders",
    "bundle.networks.checkpoints": "bundle.families.checkpoints",
    "bundle.networks.families": "bundle.families.family",
    "bundle.training.packed_file": "bundle.training.batched.file",
    "bundle.training.packed_objective": "bundle.training.batched.objective",
    "bundle.training.packed_samples": "bundle.training.batched.samples",
    "bundle.training.packed_slices": "bundle.training.batched.slices",
    "bundle.transforms.prompts": "bundle.prompts.prompts",
    "bundle.transforms.simulation": "bundle.prompts.simulation",
}
RENAMED = {
    "bundle.data.augmentation": {"recoloured": "randomize_intensity"},
    "bundle.prompts.interactions": {"interaction_from_json": "bundle.prompts.interaction_json.interaction_from_json"},
    "bundle.training.batched.augmentation": {
        "Shares": "AugmentationRates",
        "recoloured": "randomize_intensity",
        "scanned": "simulate_scanner",
        "shown": "apply_views",
        "varied_views": "randomize_views",
    },
    "bundle.training.batched.file": {
        "pack_into": "gather_into",
        "read_packed": "read_slice_tensors",
        "write_packed": "write_slice_tensors",
    },
    "bundle.training.batched.objective": {"PackedObjective": "BatchedObjective"},
    "bundle.training.batched.samples": {"PackedBatch": "ObjectBatch", "PackedSamples": "BatchedSamples"},
    "bundle.training.batched.slices": {"PackedSlices": "SliceTensors", "pack_slices": "gather_slices"},
    "bundle.training.engines": {"ObjectQuestions": "ValidationBoxes"},
    "bundle.training.samples": {
        "DrawNumbers": "bundle.training.draws.DrawNumbers",
        "SampleBatch": "bundle.training.batches.SampleBatch",
        "collate": "bundle.training.batches.collate",
    },
}
_KEYWORDS = {"pack_into": {"nameless": "instances"}, "pack_slices": {"nameless": "instances"}}
_PACKAGES = {"bundle.inference"}  # folders that are gone altogether


class _MovedFinder(MetaPathFinder, Loader):
    """Finds the modules of ``MOVED`` under their former names."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname in MOVED or fullname in _PACKAGES:
            return ModuleSpec(fullname, self, is_package=fullname in _PACKAGES)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        if spec.name not in MOVED:
            return None
        module = importlib.import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back; it was executed under its own name."""
        if module.__spec__ is not None and module.__spec__.loader_state is not None:
            module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let former names be imported."""
    if not any(type(finder).__name__ == _MovedFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _MovedFinder())  # before a folder that an older version left behind


def renamed(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module (PEP 562) that gives the names of ``RENAMED`` what took their place."""

    def get(name: str) -> Any:
        if name not in RENAMED[module]:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, present = RENAMED[module][name].rpartition(".")
        return _with_keywords(getattr(importlib.import_module(place or module), present), _KEYWORDS.get(name, {}))

    return get


def _with_keywords(function: Callable[..., Any], former: dict[str, str]) -> Callable[..., Any]:
    """A function that also takes the former names of its keywords."""
    if not former:
        return function

    @wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **{former.get(key, key): value for key, value in options.items()})

    return called
