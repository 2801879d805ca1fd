"""What `pip install .` installs is complete: configs, families and the shipped weights lie in the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser

import pytest

from bundle import __version__

SOURCES = ("bundle", "monailabel_app", "configs", "models", "docs/data_license.txt")
TOP = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
USE = """
import json, sys
import bundle, bundle.root
from bundle.families.family import find_weights, list_families, load_family
from bundle.layers import command_of
print(json.dumps([bundle.root.IS_INSTALLED, bundle.__file__, str(find_weights(load_family("default"))), list_families(),
                  command_of(["inference"], {})]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, repository):
    """The wheel, built without the network from a copy of the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in (*SOURCES, *TOP):
        source, target = repository / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__", "downloads", "logs", "*.part")
        shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copyfile(source, target)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=copy, check=True, capture_output=True)
    return out / f"monai_sam-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_every_config_and_the_weights_are_in_the_wheel(names, repository):
    configs = {f"bundle/{path.relative_to(repository)}" for path in (repository / "configs").rglob("*.json")}
    assert configs <= set(names)
    assert {
        "bundle/models/default.safetensors",
        "bundle/models/default_3d.safetensors",
        "bundle/docs/data_license.txt",
        "bundle/evaluation/report.html",
    } <= set(names)
    modules = {str(path.relative_to(repository)) for path in (repository / "bundle").rglob("*.py")}
    assert modules <= set(names)


def test_nothing_lies_outside_of_the_two_packages(names):
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"bundle", "monailabel_app", f"monai_sam-{__version__}.dist-info"}


def test_the_command_and_the_apps_part_of_it_are_entry_points(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"monai_sam-{__version__}.dist-info/entry_points.txt").decode()
    points = ConfigParser()
    points.read_string(text)
    assert points["console_scripts"]["monai-sam"] == "bundle.commands.main:main"
    assert points["monai_sam.commands"]["serve"] == "monailabel_app.command:serve"


@pytest.mark.slow
def test_an_installed_package_finds_its_own_files_from_a_bare_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    (tmp_path / "bare").mkdir()
    words = [sys.executable, "-c", USE]
    done = subprocess.run(words, cwd=tmp_path / "bare", env=environment, capture_output=True, text=True, check=True)
    is_installed, package, weights, families, command = json.loads(done.stdout)
    site = str(tmp_path / "site" / "bundle")
    assert is_installed and all(path.startswith(site) for path in (package, weights)) and "medsam" in families
    assert f"--config_file {site}/configs/inference.json" in command
