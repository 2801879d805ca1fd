"""Remove what a folder of studies keeps of the past: ``python -m monailabel_app.datastore.purge STUDIES --days 90``.

The labels that are in use, the images and what is known about them stay. A server may run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bundle.errors import explain_errors
from monailabel_app.datastore.study_folder import StudyFolder

_DAY = 24 * 3600.0


def main() -> None:
    """Remove the versions of labels that were replaced before so many days, and say how many."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, help="the folder of studies")
    parser.add_argument("--days", type=float, required=True, help="what was replaced in these last days is kept")
    args = parser.parse_args()
    if not args.studies.is_dir() or args.days < 0:
        parser.error("give a folder of studies and a number of days from 0")
    count = StudyFolder(args.studies).purge(time.time() - args.days * _DAY)
    sys.stdout.write(f"{count} versions of labels were removed from {args.studies}\n")


if __name__ == "__main__":
    main()
