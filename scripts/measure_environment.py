"""Measure what an environment takes on the disk, package by package, for the table in docs/performance.md.

    make setup VENV=fresh
    fresh/bin/python scripts/measure_environment.py --environment fresh --results docs/results/environment.json
    python scripts/tables.py

A package's files are those of its RECORD, with what pip compiled of them; a file that two packages record counts for
the first. The size on the disk is that of the blocks, as `du` counts them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from bundle.errors import OptionError, explain_errors
from bundle.files import write_text
from bundle.root import BUNDLE_ROOT

RESULTS = BUNDLE_ROOT / "docs" / "results" / "environment.json"
_BLOCK = 512  # bytes, the unit of st_blocks (POSIX, stat(2))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the result and print the total."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=Path(sys.prefix), help="folder; by default of this Python")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    result = measure(options.environment)
    write_text(options.results, json.dumps(result, indent=1) + "\n")
    print(f"{options.environment}: {len(result['packages'])} packages, {result['bytes'] / 2**30:.2f} GiB on the disk")


def measure(environment: Path) -> dict[str, Any]:
    """Bytes on the disk of an environment and of each package in it.

    Args:
        environment: a virtual environment.

    Returns:
        ``python``, ``bytes`` of all, and ``packages``: name -> ``version`` and ``bytes``, the largest first. What no
        package records is in ``bytes`` alone.

    Raises:
        OptionError: it is no virtual environment.
    """
    places = sorted({path.resolve() for path in environment.glob("[Ll]ib*/python*/site-packages")})
    if not places:
        raise OptionError(f"{environment} is no virtual environment: it has no lib/python*/site-packages")
    sizes = {path: path.lstat() for path in _files(environment.resolve())}
    counted: set[Path] = set()
    packages = {}
    for package in distributions(path=[str(place) for place in places]):
        own = [path for path in _recorded(package) if path in sizes and path not in counted]
        counted.update(own)
        packages[package.name] = {"version": package.version, "bytes": _on_disk(sizes[path] for path in own)}
    largest = dict(sorted(packages.items(), key=lambda item: -item[1]["bytes"]))
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, "bytes": _on_disk(sizes.values()), "packages": largest}


def _files(folder: Path) -> list[Path]:
    """The files of a folder and of those in it; links count as themselves."""
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]


def _recorded(package: Distribution) -> list[Path]:
    return [Path(os.path.normpath(str(file.locate()))) for file in package.files or ()]


def _on_disk(files: Iterable[os.stat_result]) -> int:
    return sum(_BLOCK * one.st_blocks for one in files)


if __name__ == "__main__":
    main()
