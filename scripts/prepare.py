"""Turn a labelled dataset into training slices: pictures, label maps, boxes, a patient-wise split and a report.

Example: python scripts/prepare.py --layout flare22 --data FLARE22Train --output slices --family medsam_v0 --workers 4
Killed runs go on where they stopped; run the same command again.

With --check nothing is prepared: the data set is audited (grids, empty and tiny objects, label values, the same image
or patient twice, intensities unlike the others'), which leaves check.json, check.html and check.png, and the exit code
is 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bundle.data.audit import RULES, WRONG, audit
from bundle.data.audit_page import write_page
from bundle.data.datasets import LAYOUTS, Item, read_layout
from bundle.data.prepare import Preparation, item_keys, prepare
from bundle.data.slice_files import STORAGES
from bundle.data.slices import SliceFilters
from bundle.families.family import load_family
from bundle.transforms.frames import PLANES


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", required=True, choices=LAYOUTS, help="how the dataset's folder is laid out")
    parser.add_argument("--data", required=True, type=Path, help="the dataset's folder")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON of options of the layout")
    parser.add_argument("--family", default="default", help="whose intensity rule (HU window) makes the pictures")
    parser.add_argument("--plane", action="append", choices=PLANES, help="may repeat; by default axial")
    parser.add_argument("--storage", choices=STORAGES, default="png")
    defaults = SliceFilters()
    parser.add_argument("--min-voxels", type=int, default=defaults.min_voxels, help="3D component size, 0 is off")
    parser.add_argument("--min-pixels", type=int, default=defaults.min_pixels, help="2D component size, 0 is off")
    parser.add_argument("--min-share", type=float, default=defaults.min_share, help="share of the slice, 0 is off")
    parser.add_argument("--split", nargs=3, type=float, default=(0.8, 0.1, 0.1), help="training, validation, test")
    parser.add_argument("--folds", type=int, default=0, help="also write so many folds of cross-validation")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--check", action="store_true", help="audit the data set instead of preparing it")
    parser.add_argument(
        "--ignore", nargs="+", choices=RULES, default=[], metavar="RULE", help=f"of the audit: {', '.join(RULES)}"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when every item is well, 1 when some are not, 2 when nothing could be done."""
    options = arguments(argv)
    try:
        items = read_layout(options.layout, options.data, **options.options)
        if options.check:
            return check(items, options)
        report = prepare(
            items,
            options.output,
            Preparation(
                contract=load_family(options.family).contract,
                planes=tuple(options.plane or ("axial",)),
                filters=SliceFilters(options.min_voxels, options.min_pixels, options.min_share),
                storage=options.storage,
            ),
            fractions=tuple(options.split),
            folds=options.folds,
            seed=options.seed,
            workers=options.workers,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{report['slices']} slices of {report['items']} items in {options.output}, patients {report['patients']}")
    for rule, organs in report["dropped"].items():
        parts = ", ".join(f"{organ} {count['parts']} ({count['size']})" for organ, count in organs.items())
        print(f"dropped by {rule}, parts (voxels or pixels): {parts}")
    for organ, items in report["organs_lost"].items():
        print(f"nothing is left of {organ} in {len(items)} items; lower the filters if they are real")
    for item, reason in report["failed"].items():
        print(f"failed {item}: {reason}", file=sys.stderr)
    return 1 if report["failed"] else 0


def check(items: list[Item], options: argparse.Namespace) -> int:
    """Audit the data set, print what was found and write the page; 1 where something is wrong."""
    labelled = [item for item in items if item["label"]]
    result = audit(
        labelled,
        options.output,
        fractions=tuple(options.split),
        seed=options.seed,
        min_voxels=options.min_voxels,
        min_pixels=options.min_pixels,
        ignored=options.ignore,
        workers=options.workers,
    )
    by_key = dict(zip(item_keys(labelled), labelled, strict=True))
    page = write_page(result, by_key, options.output, name=options.data.resolve().name)
    for rule, (level, meaning) in RULES.items():
        found = [finding for finding in result.findings if finding.rule == rule]
        if found:
            print(f"{level}: {meaning} ({rule}, {len(found)})", *(f"  {f.message}" for f in found[:5]), sep="\n")
        if len(found) > 5:
            print(f"  and {len(found) - 5} more")
    wrong = len(result.wrong)
    print(f"{len(result.facts)} images, {wrong} findings {WRONG}, {len(result.findings) - wrong} to look at: {page}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
