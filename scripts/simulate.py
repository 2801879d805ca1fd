"""Let simulated users click: how many clicks and seconds each object takes a model, image by image.

    python scripts/simulate.py --output runs/simulate --files ct.nii.gz ct_label.nii.gz [mr.nrrd mr_label.nrrd ...]
    python scripts/simulate.py --output runs/simulate --layout flare22 --data FLARE22Train --family medsam

Every labelled object is asked for in a session, as a client asks, by each --protocol: by default the CVPR 2025
challenge's box with five clicks, and a point with as many. Images of one slice are played in the same way. The command
leaves report.html, simulation.json (every click, its scores and seconds) and simulation.md (the table that it prints);
a killed run goes on with the next image when it is started again.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bundle.data.dataset_files import Item, existing, make_item, names_in, stem
from bundle.data.datasets import LAYOUTS, organ_names, read_layout
from bundle.errors import OptionError, explain_errors
from bundle.evaluation.clicks import object_rows, object_table
from bundle.evaluation.records import Records
from bundle.evaluation.study import VolumeStudy, spread
from bundle.files import write_text
from bundle.interactive.segmenter import Segmenter

PROTOCOLS = ("cvpr25", "clicks_from_point")


def main(argv: Sequence[str] | None = None) -> None:
    """Play, and print the table of objects."""
    options = arguments(argv)
    items = spread(items_of(options), options.limit)
    segmenter = Segmenter.from_family(options.family, checkpoint=options.checkpoint, device=options.device)
    study = VolumeStudy(
        segmenter,
        items,
        organs=organs_of(items, options.organs),
        protocols=options.protocol or PROTOCOLS,
        folder=options.output,
        seed=options.seed,
        tolerance=options.tolerance,
        axis=options.axis,
        name=segmenter.family.name,
        title=f"Simulated users of {segmenter.family.name}",
        description=[f"family {options.family}, weights {options.checkpoint or 'of the family'}"],
    )
    records = study.evaluate()
    if records:
        print(write_objects(options.output, records))
    study.report(records)
    study.check_all_were_read()


def write_objects(folder: Path, records: Records) -> str:
    """`simulation.json` and `simulation.md` of a run; the table."""
    rows = object_rows(records)
    write_text(folder / "simulation.json", json.dumps(rows, indent=1))
    text = object_table(rows).as_markdown()
    write_text(folder / "simulation.md", text)
    return text


def items_of(options: argparse.Namespace) -> list[Item]:
    """The labelled items of the layout, or of the files.

    Raises:
        OptionError: neither or both are given, or a file stands alone.
        LayoutError: a file is missing.
    """
    if (options.layout is None) == (options.files is None):
        raise OptionError("give either --files image label ... or --layout and --data")
    if options.layout is not None:
        if options.data is None:
            raise OptionError(f"--layout {options.layout} needs --data, the folder of the data set")
        return [item for item in read_layout(options.layout, options.data, **options.options) if item["label"]]
    if len(options.files) % 2:
        raise OptionError(f"--files takes pairs of image and label, got {len(options.files)} files")
    images, labels = (list(map(existing, options.files[n::2])) for n in (0, 1))
    names = Counter(map(stem, images))
    patients = [stem(image) if names[stem(image)] == 1 else str(image) for image in images]  # each image is one
    about = zip(images, labels, patients, strict=True)
    return [make_item(image, label, patient, names_in(label)) for image, label, patient in about]


def organs_of(items: Sequence[Item], wanted: Sequence[str] | None) -> dict[int, str]:
    """Value -> name of the organs that are asked for; None asks for all.

    Raises:
        OptionError: an organ is not in the data.
    """
    known = organ_names(items)
    if unknown := sorted(set(wanted or ()) - set(known.values())):
        raise OptionError(f"expected organs of {', '.join(known.values())}, got {unknown[0]!r}")
    return {value: name for value, name in known.items() if wanted is None or name in wanted}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", type=Path, metavar="FILE", help="image, label, image, label, ...")
    parser.add_argument("--layout", choices=LAYOUTS, help="how the data set's folder is laid out")
    parser.add_argument("--data", type=Path, help="the data set's folder")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON of options of the layout")
    parser.add_argument("--organs", nargs="+", metavar="NAME", help="of these organs alone")
    parser.add_argument("--limit", type=int, help="at most so many images, at equal steps through the list")
    parser.add_argument("--family", default="default", help="a name, or a JSON file of your own")
    parser.add_argument("--checkpoint", type=Path, help="weights; without it the family's own")
    parser.add_argument("--device", help="such as cuda; by default a GPU where there is one")
    parser.add_argument("--protocol", action="append", metavar="NAME", help="see docs/evaluation.md; may repeat")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn for the prompts")
    parser.add_argument("--tolerance", type=float, default=2.0, help="of NSD, in mm")
    parser.add_argument("--axis", type=int, default=2, choices=(0, 1, 2), help="along which slices are stacked")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; it can be continued")
    return parser.parse_args(argv)


if __name__ == "__main__":
    explain_errors(resume="run the same command again to go on")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)  # the tables of the report
    main()
