"""Fetch the published weights of model families: ``python scripts/download.py medsam``, or ``--list`` them."""

from __future__ import annotations

import argparse
import sys

from bundle.networks.families import FamilyError, load_family
from bundle.networks.registry import SOURCES, DownloadError, fetch_weights, hash_status, published


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="*", help="name of a family, see --list")
    parser.add_argument("--list", action="store_true", help="print what can be fetched and what is already here")
    options = parser.parse_args(arguments)
    if options.list or not options.family:
        print_list()
        return 0
    try:
        for name in options.family:
            print(fetch_weights(load_family(name)))
    except (DownloadError, FamilyError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def print_list() -> None:
    """One line per family with published weights; below it the hash, and where each thing was published."""
    line = "{:12} {:>13}  {:17}  {:12}  {:7}  {}"
    print(line.format("family", "size", "hash", "licence", "is here", "from"))
    for family in published():
        checkpoint = family.checkpoint
        size = f"{checkpoint['size'] / 1e6:.0f} MB" if checkpoint["size"] else "not published"
        here = "yes" if family.checkpoint_path.is_file() else "no"
        source = checkpoint["url"] or checkpoint.get("page") or checkpoint["file"]
        print(line.format(family.name, size, hash_status(family), checkpoint["licence"], here, source))
        print(f"    sha256   {checkpoint['sha256'] or 'not published'}")
        for thing in SOURCES:
            print(f"    {thing:8} {checkpoint['sources'][thing]}")


if __name__ == "__main__":
    sys.exit(main())
