"""Draw the best, the median and the worst answers of an evaluation of slices, a row for each organ and protocol.

    python scripts/plot_cases.py runs/evaluate --protocol box_jitter_20 -o docs/images/cases.png

The data is found as the layer of configs/datasets finds it, abdomen-ct-2d through MONAI_SAM_DATA.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser

from bundle.errors import explain_errors
from bundle.evaluation.figures import overlay_rows
from bundle.evaluation.records import read_records
from bundle.families.family import BUNDLE_ROOT
from bundle.files import write_atomically

CONFIGS = BUNDLE_ROOT / "configs"


def main(argv: Sequence[str] | None = None) -> None:
    """Read the answers and the slices, and write the rows below each other as one PNG."""
    options = _options(argv)
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in ("evaluate", f"datasets/{options.dataset}")])
    parser["output_dir"] = str(options.run)
    records = [record for record in read_records(options.run) if record["protocol"] in options.protocol]
    page = overlay_rows(parser.get_parsed_content("study").overlays(records).values())
    write_atomically(options.output, lambda partial: Path(partial).write_bytes(page))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="output_dir of an evaluation")
    parser.add_argument("--dataset", default="abdomen_ct_2d", help="a layer of configs/datasets")
    parser.add_argument("--protocol", action="append", help="may repeat; by default box_jitter_20 and points_1")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a PNG")
    options = parser.parse_args(argv)
    options.protocol = options.protocol or ["box_jitter_20", "points_1"]
    return options


if __name__ == "__main__":
    explain_errors()
    main()
