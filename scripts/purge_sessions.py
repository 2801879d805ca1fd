"""Remove what a server, or ``bundle.open(..., sessions=FOLDER)``, keeps of sessions: ``scripts/purge_sessions.py``.

Their files say neither image nor user; what is removed cannot be undone or restored. A running server goes on: an image
whose session is removed begins anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bundle.errors import explain_errors
from bundle.interactive.session_files import purge_sessions, sessions_folder


def main() -> None:
    """Remove them and say how many."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=sessions_folder(), help="default: %(default)s")
    parser.add_argument(
        "--days", type=float, default=0.0, help="only those on which nothing was done for so many days; default: all"
    )
    args = parser.parse_args()
    if not args.folder.is_dir():
        sys.exit(f"there is no folder {args.folder}; give the one of --conf sessions")
    print(f"removed {purge_sessions(args.folder, days=args.days)} files of sessions in {args.folder}")


if __name__ == "__main__":
    main()
