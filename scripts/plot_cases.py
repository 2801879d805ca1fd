"""Draw the best, the median and the worst answers of an evaluation of abdomen-ct-2d, a row for each organ and protocol.

    python scripts/plot_cases.py runs/evaluate --protocols box_jitter_20 points_1 --out docs/images/cases.png

The data is found through MONAI_SAM_DATA.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
from pathlib import Path

from PIL import Image

from bundle.data.layouts import msd, organ_names
from bundle.data.pool import read_pool
from bundle.evaluation.evaluator import pictures_of
from bundle.evaluation.figures import overlays
from bundle.evaluation.records import read_records
from bundle.evaluation.report import extreme_cases
from bundle.networks.families import load_family


def main() -> None:
    """Read the answers and the slices, and write the rows below each other as one PNG."""
    options = _options()
    items = [item for item in msd(options.data, datalist="datalist.json") if item["split"] == "validation"]
    slices = read_pool(items, contract=load_family("default").contract, min_pixels=1)
    records = [record for record in read_records(options.run) if record["protocol"] in options.protocols]
    cases = extreme_cases(records, options.run, pictures_of(slices, organ_names(items)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    stacked([picture(overlays(row)) for row in cases.values()]).save(options.out)


def picture(address: str) -> Image.Image:
    """The PNG in a `data:` address."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")


def stacked(rows: list[Image.Image]) -> Image.Image:
    """Pictures below each other on white."""
    page = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return page


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    parser.add_argument("run", type=Path, help="output_dir of an evaluation")
    parser.add_argument("--data", type=Path, default=data / "abdomen-ct-2d")
    parser.add_argument("--protocols", nargs="+", default=["box_jitter_20", "points_1"])
    parser.add_argument("--out", type=Path, required=True, help="a PNG")
    return parser.parse_args()


if __name__ == "__main__":
    main()
