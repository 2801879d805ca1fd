"""The public door of the package, and the former names of its modules."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import bundle
from bundle._moved import MOVED


@pytest.mark.parametrize("name", bundle.__all__)
def test_every_public_name_can_be_used(name):
    assert callable(getattr(bundle, name)) and name in dir(bundle)


def test_a_name_that_is_not_public_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'Sgmenter'"):
        bundle.Sgmenter  # noqa: B018


def test_importing_the_package_imports_no_torch():
    code = "import sys, bundle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


UP_TO_READING = """
import sys, torch
of_torch = set(sys.modules)
import bundle
try:
    bundle.open("no such file")
except bundle.MonaiSamError:
    print(*set(sys.modules) - of_torch)
"""
# What takes long to import, and what only some files and commands need.
LATER = {
    *("nibabel", "pydicom", "highdicom", "SimpleITK", "nrrd", "slicerio", "PIL", "tifffile", "zarr"),
    *("scipy.ndimage", "scipy.spatial", "scipy.stats", "skimage", "matplotlib", "pandas", "requests"),
    *("monai", "ignite", "timm", "segment_anything", "torchvision", "onnx", "openvino", "monailabel_app"),
}


def test_opening_an_image_imports_no_library_before_the_kind_of_file_is_known():
    done = subprocess.run([sys.executable, "-c", UP_TO_READING], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {"bundle.data.formats.choice", "bundle.interactive.segmenter"} <= imported
    assert imported & LATER == set()


def test_every_format_that_a_file_can_have_is_imported_before_a_process_forks():
    def modules(name):
        return {f"{name}.{module.name}" for module in pkgutil.iter_modules(importlib.import_module(name).__path__)}

    code = "import sys; from bundle.data import formats; formats.import_all(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert modules("bundle.data.formats") - {"bundle.data.formats.choice"} <= set(done.stdout.split())


@pytest.mark.parametrize("former", MOVED)
def test_a_former_name_gives_the_module_that_took_its_place(former):
    module = importlib.import_module(MOVED[former])
    assert importlib.import_module(former) is module and module.__spec__.name == MOVED[former]


def test_what_never_existed_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("bundle.inference.nothing")
