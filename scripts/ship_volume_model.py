"""Write weights of the network of volumes as the shipped file, with what they are, and say its size and sha256.

    python scripts/ship_volume_model.py 3d-first.safetensors                          # the start of docs/model_card.md
    python scripts/ship_volume_model.py runs/default_3d/best.safetensors            # what a training left

The same weights give the same bytes. Size and sha256 belong into configs/families/default_3d.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bundle.errors import explain_errors
from bundle.families.checkpoints import open_checkpoint, save_checkpoint
from bundle.families.family import BUNDLE_ROOT, build_network, load_family
from bundle.files import sha256_of

FAMILY = "default_3d"
# Of the first weights, which do not say it themselves: they were trained by other code, outside of this repository.
FIRST_RECIPE = (
    "a prototype outside of the repository: 1,663 steps of 24 cubes of 96 cells in 557 s on one H200, Muon 3e-3, "
    "cosine, moving average; configs/recipes/volumes/train.json is that run as a recipe"
)
FIRST_DATA = {
    "labelled": "one abdominal CT and one MR of TotalSegmentator (labels of a model); volumes of ct-mr",
    "regions": "grey regions of these, and of one brain and one breast MR of pyradiomics",
    "phantom": "six generated phantoms",
    "shapes": "drawn blobs and tubes, three eighths of the samples",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="of the family default_3d, under today's names or their first ones")
    parser.add_argument("-o", "--output", type=Path, default=BUNDLE_ROOT / "models" / f"{FAMILY}.safetensors")
    options = parser.parse_args(argv)
    family = load_family(FAMILY)
    opened = open_checkpoint(options.weights)
    metadata = {
        "family": family.name,
        "contract": dict(family.contract_def),
        "recipe": FIRST_RECIPE,
        "training_data": FIRST_DATA,
        **opened.metadata,
    }
    path = save_checkpoint(build_network(family, checkpoint=options.weights), options.output, metadata=metadata)
    print(f"{path}: {path.stat().st_size} bytes, sha256 {sha256_of(path)}")


if __name__ == "__main__":
    main()
