"""Small things that the tests of learning share."""

from __future__ import annotations

import json
from pathlib import Path

from bundle.families.family import load_family

SIZE = 64


def write_small_family(folder: Path) -> Path:
    """A family like the shipped one, with a U-Net of three narrow levels at 64 px: `tiny.json`."""
    network = {"_target_": "bundle.families.builders.prompted_unet", "image_size": SIZE}
    network |= {"widths": [8, 16, 16], "depths": [1, 1, 1]}
    contract = {**load_family("default").contract_def, "size": SIZE}
    path = folder / "tiny.json"
    path.write_text(json.dumps({"name": "tiny", "title": "small", "network_def": network, "contract": contract}))
    return path
