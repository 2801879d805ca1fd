"""Puts the configs and the shipped weights into the package when a wheel is built; all else is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FILES = ("configs/**/*.json", "configs/**/*.conf", "models/*.safetensors", "LICENSE", "NOTICE", "docs/data_license.txt")


class BuildWithFiles(build_py):
    """Lays the bundle's own files inside of the package, where `bundle.root` looks for them."""

    def run(self) -> None:
        """Build, and copy the files unless the clone itself is what gets installed."""
        super().run()
        if self.editable_mode:
            return
        for path in sorted(path for pattern in FILES for path in ROOT.glob(pattern)):
            target = Path(self.build_lib, "bundle", path.relative_to(ROOT))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


setup(cmdclass={"build_py": BuildWithFiles})
