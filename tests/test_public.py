"""The public door of the package, and the former names of its modules."""

from __future__ import annotations

import importlib
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


@pytest.mark.parametrize("former", MOVED)
def test_a_former_name_gives_the_module_that_took_its_place(former):
    module = importlib.import_module(MOVED[former])
    assert importlib.import_module(former) is module and module.__spec__.name == MOVED[former]


def test_what_never_existed_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("bundle.inference.nothing")
