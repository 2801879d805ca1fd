"""Make a trained checkpoint the shipped one: models/default.safetensors, with what its metadata lacks, and its hash.

    python scripts/ship_weights.py runs/5_color_and_scenes/best.safetensors
    python scripts/ship_weights.py version9.safetensors     # what scripts/train_bare.py left, put together

The weights stay as they are, number by number. Size and sha256 go into configs/families/default.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from bundle.errors import explain_errors
from bundle.families.checkpoint_files import METADATA_KEY
from bundle.families.checkpoints import open_checkpoint
from bundle.families.family import BUNDLE_ROOT, build_network, load_family
from bundle.files import sha256_of, write_atomically, write_text

SHIPPED = BUNDLE_ROOT / "models" / "default.safetensors"
FAMILY = BUNDLE_ROOT / "configs" / "families" / "default.json"
# Label values of abdomen-ct-2d, whose patients all shipped weights were trained and validated on.
LABELS = {"liver": 1, "pancreas": 2}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="trained weights of the family default, .safetensors")
    parser.add_argument("--recipe", help="which part of the recipe they are; by default what their metadata says")
    parser.add_argument("-o", "--output", type=Path, default=SHIPPED)
    parser.add_argument("--family-file", type=Path, default=FAMILY, help="family file that names them")
    options = parser.parse_args(argv)
    build_network(load_family("default"), checkpoint=options.checkpoint)  # refuses what does not fit
    opened = open_checkpoint(options.checkpoint)
    metadata = {**opened.metadata, "labels": LABELS, "weights_sha256": opened.sha256}
    metadata |= {"recipe": options.recipe} if options.recipe else {}
    header = {METADATA_KEY: json.dumps(metadata)}
    tensors = load_file(options.checkpoint)
    write_atomically(options.output, lambda partial: save_file(tensors, partial, metadata=header))
    text = options.family_file.read_text(encoding="utf-8")
    about = json.loads(text)["checkpoint"]
    for old, new in (
        (f'"size": {about["size"]}', f'"size": {options.output.stat().st_size}'),
        (f'"sha256": "{about["sha256"]}"', f'"sha256": "{sha256_of(options.output)}"'),
    ):
        text = text.replace(old, new)
    write_text(options.family_file, text)
    print(f"{options.output}: {options.output.stat().st_size} bytes, sha256 {sha256_of(options.output)}")


if __name__ == "__main__":
    main()
