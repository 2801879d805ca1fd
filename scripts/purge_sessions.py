"""Remove what a server, or ``bundle.open(..., sessions=FOLDER)``, keeps of images: ``scripts/purge_sessions.py``.

These are sessions and prepared slices: those in the folders that are named and no others, or all in the default folders
where none is named. Their files say neither image nor user; sessions that are removed cannot be restored. A running
server goes on: an image whose session is removed begins anew, and slices are prepared again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bundle.engines.prepared_files import prepared_folder, purge_prepared
from bundle.errors import explain_errors
from bundle.interactive.session_files import purge_sessions, sessions_folder


def main() -> None:
    """Remove them and say how many."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help=f"of sessions; {sessions_folder()} if none is named")
    parser.add_argument(
        "--prepared", type=Path, help=f"a folder of prepared slices; {prepared_folder()} if none is named"
    )
    parser.add_argument(
        "--days", type=float, default=0.0, help="only those that were not used for so many days; default: all"
    )
    args = parser.parse_args()
    for folder, option in ((args.folder, "sessions"), (args.prepared, "prepared")):
        if folder is not None and not folder.is_dir():
            sys.exit(f"there is no folder {folder}; give the one of --conf {option}")
    sessions, prepared = args.folder, args.prepared
    if sessions is None and prepared is None:  # sessions cannot be made again: whoever names a folder means that one
        sessions, prepared = sessions_folder(), prepared_folder()
    if sessions is not None:
        print(f"removed {purge_sessions(sessions, days=args.days)} files of sessions in {sessions}")
    if prepared is not None:
        print(f"removed {purge_prepared(prepared, days=args.days)[0]} prepared slices in {prepared}")


if __name__ == "__main__":
    main()
