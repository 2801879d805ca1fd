"""Small things that the tests of evaluation configs share: a family of 64 px, weights, and MONAI's command."""

from __future__ import annotations

import json
from pathlib import Path

from monai.bundle import run
from training_room import CONTRACT, GRID, SIZE

from bundle.networks.checkpoints import save_checkpoint
from bundle.networks.families import BUNDLE_ROOT, build_network, load_family

CONFIGS = BUNDLE_ROOT / "configs"


def write_family(folder: Path, *, base: str = "default", **options) -> Path:
    """A family like `base`, with a TinyViT of 64 px: `tiny.json`."""
    family = load_family(base)
    network_def = {
        "_target_": "bundle.networks.build.sam_tiny_vit",
        "image_size": SIZE,
        "grid": GRID,
        "neck": "pyramid",
        "window_sizes": [4, 4, 4],
        **options,
    }
    content = {
        "name": "tiny",
        "title": "A network for tests",
        "network_def": network_def,
        "contract": {**family.contract_def, "size": CONTRACT.size},
        "trainable": list(family.trainable),
    }
    path = folder / "tiny.json"
    path.write_text(json.dumps(content))
    return path


def write_weights(family: Path, path: Path, *, seed: int) -> Path:
    """Random weights of a family."""
    network = build_network(family, random=True, seed=seed)
    return save_checkpoint(
        network, path, metadata={"family": "tiny", "contract": dict(load_family(family).contract_def)}
    )


def run_bundle(*configs: str, **options) -> None:
    """`python -m monai.bundle run --config_file "[...]"` in this process; configs are named without `.json`."""
    run(config_file=[str(CONFIGS / f"{name}.json") for name in configs], logging_file=False, **options)
