"""The folder for machines without a network: complete, checked, and installed without asking anyone."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bundle import __version__

script = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "make_offline.py"))
NO_NETWORK = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A repository in small: our package as two empty ones, built as the real one is."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("bundle", "monailabel_app", "configs", "models", "docs"):
        (folder / name).mkdir()
    (folder / "bundle" / "__init__.py").write_text(f'__version__ = "{__version__}"\n')
    for name in ("README.md", "LICENSE", "NOTICE"):
        (folder / name).write_text(name)
    (folder / "setup.py").write_text("from setuptools import setup\nsetup()\n")
    project = f'name = "monai-sam"\nversion = "{__version__}"\n[tool.setuptools]\npackages = ["bundle"]\n'
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\n{project}'
    )
    return folder


@pytest.fixture(scope="module")
def requirements(tmp_path_factory):
    """A list of one package, whose wheel lies in the folder already as after a run that was stopped."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "wheels").mkdir()
    with zipfile.ZipFile(folder / "wheels" / "Small_Thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small_thing.py", "VALUE = 3\n")
        wheel.writestr("small_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-thing\nVersion: 1.0\n")
        wheel.writestr("small_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("small_thing-1.0.dist-info/RECORD", "")
    path = folder.parent / "requirements.txt"
    path.write_text("# comment\n\nsmall.thing==1.0  # as its wheel is called\n")
    return folder, path


@pytest.fixture(scope="module")
def made(sources, requirements):
    folder, path = requirements
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NO_NETWORK.items():
            patch.setenv(name, value)
        return script["make_offline"](folder, requirements=path, root=sources)


def install(made, tmp_path, **environment):
    command = ["sh", str(made / "install.sh"), str(tmp_path / "venv")]
    environment = {**os.environ, **NO_NETWORK, "PYTHON": sys.executable, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)


def test_the_folder_holds_every_wheel_and_its_sum(made):
    sums = dict(line.split("  ")[::-1] for line in (made / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {
        "requirements.txt",
        "wheels/Small_Thing-1.0-py3-none-any.whl",
        f"wheels/monai_sam-{__version__}-py3-none-any.whl",
    }


def test_it_installs_with_the_network_off(made, tmp_path):
    done = install(made, tmp_path)
    assert done.returncode == 0, done.stderr
    program = f"import small_thing, bundle; assert (small_thing.VALUE, bundle.__version__) == (3, '{__version__}')"
    subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", program], check=True, cwd=tmp_path)


def test_a_file_that_changed_on_its_way_is_named_and_nothing_is_installed(made, tmp_path):
    copy = tmp_path / "offline"
    shutil.copytree(made, copy)
    with open(copy / "wheels" / "Small_Thing-1.0-py3-none-any.whl", "ab") as wheel:
        wheel.write(b"x")
    done = install(copy, tmp_path)
    assert done.returncode != 0 and "Small_Thing" in done.stdout + done.stderr
    assert not (tmp_path / "venv").exists()


def test_another_python_is_refused_in_one_sentence(made, tmp_path):
    copy = tmp_path / "offline"
    shutil.copytree(made, copy)
    text = (copy / "install.sh").read_text()
    ours = ".".join(map(str, sys.version_info[:2]))
    (copy / "install.sh").write_text(text.replace(f'made, got = ("{ours}"', 'made, got = ("2.7"'))
    done = install(copy, tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: the packages are for Python 2.7 on ")


def test_a_package_that_cannot_be_had_is_named(sources, tmp_path, monkeypatch, capsys):
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "list.txt").write_text("no-such-package==1.0\n")
    assert script["main"](["--output", str(tmp_path / "out"), "--requirements", str(tmp_path / "list.txt")]) == 2
    assert "error: cannot get no-such-package==1.0: ERROR: No matching distribution" in capsys.readouterr().err
