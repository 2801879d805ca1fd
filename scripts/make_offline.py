"""Collect what a machine without a network needs: every package as a wheel, ours with its weights, an installer.

    python scripts/make_offline.py --output dist/offline                        # the server and the command, CUDA
    python scripts/make_offline.py --output dist/offline --requirements requirements-cpu.txt

Carry the folder to the other machine and run `./install.sh FOLDER` there: it compares every file with SHA256SUMS, makes
an environment in FOLDER and asks no network. The viewer of DICOMweb servers (OHIF) lies in MONAI Label's wheel, the
shipped weights in ours; published weights of other families are fetched beforehand by `monai-sam download`. Wheels that
are in the folder already are not fetched again, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bundle.errors import MonaiSamError
from bundle.files import sha256_of, write_text

ROOT = Path(__file__).resolve().parent.parent
# What the wheel is made of; a copy, because setuptools leaves build folders beside what it builds.
SOURCES = ("bundle", "monailabel_app", "configs", "models", "docs", "pyproject.toml", "setup.py", "README.md")
LICENCES = ("LICENSE", "NOTICE")
# Packages of one start of pip: it takes longer than most downloads, and what has been fetched is kept when it ends.
_AT_ONCE = 10
INSTALL = """\
#!/bin/sh
# Installs monai-sam from the files beside this script; no network is asked: ./install.sh [FOLDER=monai-sam]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${{1:-monai-sam}}
python=${{PYTHON:-python3}}
"$python" -c 'import platform, sys
made, got = ("{python}", "{machine}"), ("%d.%d" % sys.version_info[:2], platform.machine())
if got != made:
    sys.exit("error: the packages are for Python %s on %s, got Python %s on %s; PYTHON= names another" % (made + got))'
(cd "$here" && sha256sum --check --quiet SHA256SUMS)
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --no-index --no-deps --find-links "$here/wheels" -r "$here/requirements.txt"
"$venv/bin/python" -m pip install --no-index --no-deps "$here"/wheels/monai_sam-*.whl
echo "Installed. $venv/bin/monai-sam --help lists the commands."
"""


class OfflineError(MonaiSamError):
    """A package cannot be had."""


def make_offline(output: Path, *, requirements: Path, root: Path = ROOT) -> Path:
    """Fill a folder with wheels, requirements.txt, install.sh and SHA256SUMS.

    Args:
        output: the folder; wheels that it holds already are kept.
        requirements: the complete list of packages with their versions.
        root: the repository.

    Returns:
        The folder.

    Raises:
        OfflineError: a package cannot be had; what came before it stays.
    """
    wheels = output / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    wanted = _requirements(requirements)
    missing = [requirement for requirement in wanted if not _is_there(requirement, wheels)]
    with tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc="packages", unit="package") as progress:
        for start in range(0, len(missing), _AT_ONCE):
            _fetch(wheels, missing[start : start + _AT_ONCE])
            progress.update(len(missing[start : start + _AT_ONCE]))
    for outdated in wheels.glob("monai_sam-*.whl"):
        outdated.unlink()
    with tempfile.TemporaryDirectory() as folder:
        _pip_wheel(wheels, str(_copy(root, Path(folder))))
    write_text(output / "requirements.txt", "".join(f"{line}\n" for line in wanted))
    version = ".".join(platform.python_version_tuple()[:2])
    write_text(output / "install.sh", INSTALL.format(python=version, machine=platform.machine()), mode=0o755)
    files = sorted([*wheels.glob("*.whl"), output / "requirements.txt"])
    sums = (f"{sha256_of(path)}  {path.relative_to(output)}\n" for path in tqdm(files, desc="sha256", unit="file"))
    write_text(output / "SHA256SUMS", "".join(sums))
    return output


def _requirements(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def _is_there(requirement: str, wheels: Path) -> bool:
    """Whether a wheel of that name and version lies in the folder (its name: PEP 427 and PEP 503)."""
    name, _, version = requirement.partition(";")[0].strip().partition("==")
    normal = re.sub(r"[-_.]+", "_", name.strip()).lower()
    return any(
        (parts := path.name.split("-"))[1] == version and re.sub(r"[-_.]+", "_", parts[0]).lower() == normal
        for path in wheels.glob("*.whl")
    )


def _fetch(wheels: Path, requirements: Sequence[str]) -> None:
    """Fetch or build wheels; where one of several cannot be had, one by one, to name it and keep the others."""
    try:
        _pip_wheel(wheels, *requirements)
    except OfflineError:
        if len(requirements) == 1:
            raise
        for requirement in requirements:
            _pip_wheel(wheels, requirement)


def _pip_wheel(wheels: Path, *what: str) -> None:
    words = ("wheel", "--no-deps", "--no-build-isolation", "--progress-bar", "off", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, "--wheel-dir", str(wheels), *what], capture_output=True, text=True
    )
    if done.returncode:
        why = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), done.stderr)
        raise OfflineError(f"cannot get {', '.join(what)}: {why.strip()}")


def _copy(root: Path, folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "downloads", "logs", "*.part")
    for name in (*SOURCES, *LICENCES):
        source = root / name
        shutil.copytree(source, folder / name, ignore=ignored) if source.is_dir() else shutil.copy(source, folder)
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the folder is complete, 2 when a package cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist" / "offline", help="folder to fill")
    parser.add_argument("--requirements", type=Path, default=ROOT / "requirements.txt", help="the list of packages")
    options = parser.parse_args(argv)
    try:
        folder = make_offline(options.output, requirements=options.requirements)
    except (MonaiSamError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {len(list(folder.glob('wheels/*')))} packages, {size / 1e9:.2f} GB; run install.sh there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
