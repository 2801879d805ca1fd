"""Remove what is kept of the past: ``python -m monailabel_app.datastore.purge STUDIES --days 90``.

Of a folder of studies these are labels that were replaced; the labels that are in use, the images and what is known
about them stay. Of a DICOMweb server these are also the series that were fetched and not used since, with what was
said about them; the server itself keeps all it has. A server may run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bundle.errors import explain_errors
from monailabel_app.datastore.address import is_dicomweb
from monailabel_app.datastore.dicomweb_store import store_at
from monailabel_app.datastore.study_folder import StudyFolder

_DAY = 24 * 3600.0


def main() -> None:
    """Remove what is older than so many days, and say how much that was."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", help="the folder of studies, or the address of the DICOMweb server")
    parser.add_argument("--days", type=float, required=True, help="what was replaced or used in these days stays")
    args = parser.parse_args()
    is_address = is_dicomweb(args.studies)
    if not (is_address or Path(args.studies).is_dir()) or not args.days >= 0:
        parser.error("give a folder of studies, or the address of a DICOMweb server, and a number of days from 0")
    store = store_at(args.studies) if is_address else StudyFolder(args.studies)
    count = store.purge(time.time() - args.days * _DAY)
    what = "series and versions of labels" if is_address else "versions of labels"
    sys.stdout.write(f"{count} {what} were removed from what is kept of {args.studies}\n")


if __name__ == "__main__":
    main()
