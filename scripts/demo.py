"""The main job from end to end: start the server over a study, work on it as 3D Slicer does, score every organ.

python scripts/demo.py [--image CT.nii.gz --label LABEL.nii.gz [--names NAMES.json]] [--output demo]
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.batch.cases import label_names
from bundle.data.grid import check_grid
from bundle.data.synthetic.phantom import PHANTOM_LABELS, write_phantom
from bundle.data.volume import Volume, read_label, read_volume, write_label
from bundle.errors import MonaiSamError, OptionError
from bundle.files import write_text
from monailabel_app.demo.pictures import draw_organ, draw_overview
from monailabel_app.demo.rounds import OrganResult, Row, merge, segment_organ
from monailabel_app.demo.slicer_user import SlicerError, SlicerUser
from monailabel_app.server.launch import ServerError, log_tail, running_server

SMALLEST_ORGAN = 20  # voxels; less is a scrap at the edge of the scan


def main() -> None:
    """Run the demonstration; the exit status is not 0 if any step fails."""
    args = parse_arguments()
    output = args.output.resolve()
    log = output / "server.log"
    studies = output / "studies"
    shutil.rmtree(studies, ignore_errors=True)
    studies.mkdir(parents=True)
    image_path, label_path = (args.image, args.label) if args.image else write_phantom(output / "phantom")
    try:
        image = read_volume(image_path)
        truth = check_grid(image, read_label(label_path))
        organs = organs_of(truth, args.names if args.image else PHANTOM_LABELS)
        settings = {"MONAI_LABEL_SESSION_PATH": str(output / "sessions")}
        # A second run would be shown the answers of the first, and find its slices prepared. Nothing is learnt of it.
        conf = {"sessions": "off", "prepared": "off", "learning": "off", **dict(args.conf)}
        print(f"Starting the server over {studies} (log: {log})", flush=True)
        with running_server(studies, log=log, conf=conf, settings=settings) as url:
            results = work(url, image_path, image, truth, organs, output)
    except (ServerError, SlicerError, MonaiSamError) as error:
        tail = f"\n\nThe server's log ends with\n{log_tail(log)}" if log.exists() else ""
        sys.exit(f"The demonstration failed: {error}{tail}")
    rows = [row for result in results for row in result.rows]
    write_table(rows, output)
    print_table(rows)
    print(f"Label maps, pictures and the table lie in {output}")


def work(
    url: str, image_path: Path, image: Volume, truth: Volume, organs: dict[str, int], output: Path
) -> list[OrganResult]:
    """What a user of Slicer does: connect, open the volume, segment organ by organ, submit the label."""
    user = SlicerUser(url, output / "replies")
    info = user.info()
    print(f"Connected to {info['name']} {info['version']}: {', '.join(info['models'])}", flush=True)
    user.open_volume(image_path)
    results = []
    for name, value in tqdm(organs.items(), desc="organs", unit="organ"):
        result = segment_organ(user, truth, name, value)
        picture = output / "pictures" / (re.sub(r"[^\w-]+", "_", name) + ".png")
        draw_organ(picture, image, truth.array == value, result)
        results.append(result)
    write_label(merge(truth.shape, organs, [result.on_slice for result in results]), image, output / "labels-2d.nii.gz")
    answer = merge(truth.shape, organs, [result.in_volume for result in results])
    path = write_label(answer, image, output / "labels-3d.nii.gz")
    boxes = {result.name: result.volume_box for result in results}
    draw_overview(output / "overview.png", image, truth.array, answer, organs, boxes)
    submit(user, image_path, path, organs)
    user.close_volume()
    return results


def submit(user: SlicerUser, image_path: Path, label_path: Path, organs: dict[str, int]) -> None:
    """Submit the label and see that the server gives the same one back."""
    user.submit(image_path, label_path, [{"name": name, "idx": value} for name, value in organs.items()])
    stored = user.fetch_label()
    if not np.array_equal(read_label(stored).array, read_label(label_path).array):
        raise SlicerError("the label that the server stored differs from the one that was submitted")
    stored.unlink()


def organs_of(truth: Volume, names: Mapping[str, int] | Path | None) -> dict[str, int]:
    """Name -> value of the objects in a label map.

    Args:
        truth: the label map.
        names: name -> value, or a JSON file of that; a value without a name is called `label <value>`, because no
            numbering says what it is.

    Raises:
        OptionError: the map is empty.
        CaseError: the names are no whole numbers by name.
    """
    values, counts = np.unique(truth.array[truth.array > 0], return_counts=True)
    present = [int(value) for value, count in zip(values, counts, strict=True) if count >= SMALLEST_ORGAN]
    if not present:
        raise OptionError("the label map shows no object; give the label that belongs to the image")
    known = {} if names is None else label_names(names, truth.array)
    by_value = {value: name.replace("_", " ") for name, value in known.items()}
    return {by_value.get(value, f"label {value}"): value for value in present}


def write_table(rows: list[Row], output: Path) -> None:
    """Write the table as CSV and JSON."""
    lines: list[dict[str, Any]] = [asdict(row) for row in rows]
    with (output / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    write_text(output / "table.json", json.dumps(lines, indent=1) + "\n")


def print_table(rows: list[Row]) -> None:
    """Print the table and the mean over organs of each prompt."""
    line = "{:<22} {:<9} {:>6} {:>6} {:>8}   {:>6} {:>6} {:>6} {:>8}".format
    print(line("organ", "prompt", "DSC", "NSD", "seconds", "clicks", "DSC", "NSD", "seconds"))
    for first, last in pairs(rows):
        print(line(first.organ, first.prompt, *_numbers(first), *_after(last)))
    for prompt in dict.fromkeys(first.prompt for first, _ in pairs(rows)):
        both = [(first, last or first) for first, last in pairs(rows) if first.prompt == prompt]
        means = [_mean([pair[part] for pair in both]) for part in (0, 1)]
        print(line(f"mean of {len(both)}", prompt, *means[0], "", *means[1]))
    print(
        "Left: the answer to the prompt alone. Right: after clicks where the answer was most wrong; the seconds are\n"
        "those of one click, and an answer that needed none counts in the mean as it is. NSD is at 2 mm; seconds go\n"
        "from the click to the file on the client's disk."
    )


def pairs(rows: list[Row]) -> list[tuple[Row, Row | None]]:
    """The row of each prompt with the one after its clicks; None where nothing had to be corrected."""
    after = {(row.organ, row.prompt.partition(" + ")[0]): row for row in rows if " + " in row.prompt}
    return [(row, after.get((row.organ, row.prompt))) for row in rows if " + " not in row.prompt]


def _numbers(row: Row) -> list[str]:
    seconds = row.first_seconds if row.first_seconds is not None else row.following_seconds
    return [f"{row.dsc:.3f}", f"{row.nsd:.3f}", f"{seconds:.2f}"]


def _after(row: Row | None) -> list[str]:
    return ["0", "", "", ""] if row is None else [row.prompt.partition(" + ")[2].split()[0], *_numbers(row)]


def _mean(rows: list[Row]) -> list[str]:
    return [f"{np.mean([float(numbers[column]) for numbers in map(_numbers, rows)]):.3f}" for column in range(3)]


def parse_arguments() -> argparse.Namespace:
    """The command line; empty values count as absent, so that a Makefile may pass unset variables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=_path, help="volume to segment; by default a generated CT")
    parser.add_argument("--label", type=_path, help="its label map: gives the prompts, and the truth to compare with")
    parser.add_argument("--names", type=_path, help='JSON file {"liver": 1, ...}: what the values of the label map are')
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"))
    parser.add_argument(
        "--conf", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="family, checkpoint, device"
    )
    args = parser.parse_args()
    if (args.image is None) != (args.label is None):
        parser.error("--image and --label belong together: the prompts are drawn from the label")
    return args


def _path(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path.resolve()


if __name__ == "__main__":
    # Being stopped from outside must stop the server as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
