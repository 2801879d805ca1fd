"""Write who is credited for the data that the shipped weights were trained on, or say what is missing.

    python scripts/data_license.py             # writes the sets into docs/data_license.txt, from their LICENSE.txt
    python scripts/data_license.py --check     # exit code 1 and a line for each source that the page does not name

Which sets they are stands in the metadata of the weights (`training_data`). The data is found through MONAI_SAM_DATA;
--check without data compares the page with the weights alone.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from bundle.errors import OptionError, explain_errors
from bundle.families.checkpoints import open_checkpoint
from bundle.families.family import BUNDLE_ROOT
from bundle.files import write_text

PAGE = BUNDLE_ROOT / "docs" / "data_license.txt"
WEIGHTS = BUNDLE_ROOT / "models" / "default.safetensors"
COLLECTIONS = ("ct-mr", "other")  # folders of sets, each with its LICENSE.txt
# What the page has written by hand: sources of configs/recipes/shipped, and the words by which the page has them.
BY_HAND = {
    "labelled": "Task03_Liver",
    "ct": "TotalSegmentator's test files",
    "mr": "TotalSegmentator's test files",
    "demo": "SAM-Med2D's demonstration slices",
    "demo_hidden": "SAM-Med2D's demonstration slices",
    "regions": "connected regions of",
    "other_regions": "for their grey regions",
    "phantom": "Generated phantoms",
    "shapes": "the drawn shapes",
    "scenes": "the drawn scenes",
}
BEGIN, END = "--- the sets, by scripts/data_license.py ---", "--- end of the sets ---"
_FIELD = re.compile(r"^(Original data set|Data set|Licence|Attribution|Masks)\s*:\s*(.+)$", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(argv)
    sources = list(open_checkpoint(WEIGHTS).metadata["training_data"])
    page = PAGE.read_text(encoding="utf-8")
    if not options.check:
        page = filled(page, sources, options.data)
        write_text(PAGE, page)
    for name in (missing := missing_from(page, sources)):
        print(f"{name} is in the weights, but not in {PAGE.name}")
    return 1 if missing else 0


def missing_from(page: str, sources: Sequence[str]) -> list[str]:
    """The sources that the page neither describes by hand nor lists with licence and credit."""
    listed = page.partition(BEGIN)[2].partition(END)[0]
    entries = dict(re.findall(r"^   (\S+)\n((?:      .+\n)+)", listed, re.MULTILINE))
    complete = {name for name, text in entries.items() if "Licence: " in text and "Credit: " in text}
    return [name for name in sources if name not in complete and BY_HAND.get(name, BEGIN + name) not in page]


def filled(page: str, sources: Sequence[str], data: Path) -> str:
    """The page with an entry for each set.

    Raises:
        OptionError: if a set has no LICENSE.txt in the data, or the page has no place for the sets.
    """
    if BEGIN not in page or END not in page:
        raise OptionError(f"{PAGE} has no lines {BEGIN!r} and {END!r}; write them where the sets belong")
    entries = "\n".join(entry(name, licence_file(name, data)) for name in sorted(sources) if name not in BY_HAND)
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{entries}\n{END}{rest.partition(END)[2]}"


def licence_file(name: str, data: Path) -> str:
    """The text of the LICENSE.txt of a set."""
    for collection in COLLECTIONS:
        path = data / collection / name / "LICENSE.txt"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise OptionError(f"{name} has no LICENSE.txt in {data}/{{{','.join(COLLECTIONS)}}}; set MONAI_SAM_DATA or --data")


def entry(name: str, text: str) -> str:
    """What the page says of a set: its title, its licence, who drew the masks, whom to credit."""
    found = dict(_FIELD.findall(text))
    title = found.get("Original data set") or found.get("Data set")
    licence = found["Licence"].partition(": ../")[0]  # then comes a path that is not here
    lines = (
        *([title] if title else []),
        f"Licence: {licence}. Masks: {found['Masks']}.",
        f"Credit: {found['Attribution'].rstrip('.')}.",
    )
    body = "\n".join(
        textwrap.fill(line, 117, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
        for line in lines
    )
    return f"   {name}\n{body}\n"


if __name__ == "__main__":
    sys.exit(main())
