"""Small things that the tests of evaluation configs share: a family of 64 px, weights, and MONAI's command."""

from __future__ import annotations

import json
from pathlib import Path

from monai.bundle import run
from training_room import CONTRACT, GRID, ORGANS, SIZE, make_slice

from bundle.data.volume import Volume, write_label, write_volume
from bundle.families.checkpoints import save_checkpoint
from bundle.families.family import BUNDLE_ROOT, build_network, load_family

CONFIGS = BUNDLE_ROOT / "configs"
AFFINE = [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def write_family(folder: Path, *, base: str = "default", **options) -> Path:
    """A family like `base`, with a TinyViT of 64 px: `tiny.json`."""
    family = load_family(base)
    network_def = {
        "_target_": "bundle.families.builders.sam_tiny_vit",
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


def write_two_organs(folder: Path) -> None:
    """`abdomen-ct-2d` as the real data: one organ is labelled on each of 11 slices, patients are split."""
    lists = {"training": [], "validation": []}
    for n in range(11):  # the last patient has no pancreas
        split = "training" if n < 6 else "validation"
        organ = 1 + n % 2
        part = make_slice(n, patient=f"{split}-{n // 2 % 3}", ids=(organ,))
        name = f"{ORGANS[organ]}_{n}.png"
        picture = Volume(part.picture.T[:, :, None], AFFINE, "windowed")
        write_volume(picture, folder / "abdomen-ct-2d" / "images" / name)
        write_label(part.labels.T[:, :, None], picture, folder / "abdomen-ct-2d" / "labels" / name)
        lists[split].append({"image": f"images/{name}", "label": f"labels/{name}", "patient": part.patient})
    labels = {"0": "background", **{str(value): name for value, name in ORGANS.items()}}
    (folder / "abdomen-ct-2d" / "datalist.json").write_text(json.dumps({"labels": labels, **lists}))


def write_weights(family: Path, path: Path, *, seed: int) -> Path:
    """Random weights of a family."""
    network = build_network(family, random=True, seed=seed)
    return save_checkpoint(
        network, path, metadata={"family": "tiny", "contract": dict(load_family(family).contract_def)}
    )


def run_bundle(*configs: str, **options) -> None:
    """`python -m monai.bundle run --config_file "[...]"` in this process; configs are named without `.json`."""
    run(config_file=[str(CONFIGS / f"{name}.json") for name in configs], logging_file=False, **options)
