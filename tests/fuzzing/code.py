"""What code of this repository is behind a door, so that a round belongs to one state of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def code_behind(name: str) -> str:
    """Digest of this repository's code that runs when a door opens the right files of a format.

    A change elsewhere, as in a page of the server, leaves a round what it was; one of what a file passes through begins
    the next. Versions of libraries are not in it: after an update of one, begin with an empty state.

    Args:
        name: of the format.
    """
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "tests")])
    asked = [sys.executable, "-m", "fuzzing.code", name]  # a fresh interpreter: this one has imported other things
    told = subprocess.run(asked, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True, check=True)
    digest = hashlib.sha256()
    for line in told.stdout.splitlines():
        digest.update(f"{line}\n".encode() + (_ROOT / line).read_bytes())
    return digest.hexdigest()[:10]


def imported_by(name: str) -> list[str]:
    """Paths, from the root of the repository, of its modules that are imported once the right files were opened."""
    from fuzzing.case import Bench
    from fuzzing.targets import TARGETS
    from fuzzing.watch import Watch

    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(TARGETS[name].door, Bench(Path(folder)))
        for case in TARGETS[name].seeds:
            watch.warm(case)
    files = {Path(file).resolve() for one in list(sys.modules.values()) if (file := getattr(one, "__file__", None))}
    ours = _ROOT / "bundle", _ROOT / "tests" / "fuzzing"
    return sorted(
        path.relative_to(_ROOT).as_posix() for path in files if any(path.is_relative_to(folder) for folder in ours)
    )


if __name__ == "__main__":
    output = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no path
    os.write(output, "".join(f"{path}\n" for path in imported_by(sys.argv[1])).encode())
