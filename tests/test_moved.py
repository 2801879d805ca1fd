"""Former names of classes, functions and keywords keep working; those of modules are in test_public.py."""

from __future__ import annotations

import importlib

import pytest
from training_room import make_pool

from bundle._moved import RENAMED

NAMES = [(module, old, new) for module, names in RENAMED.items() for old, new in names.items()]


@pytest.mark.parametrize(("module", "former", "name"), NAMES)
def test_a_former_name_is_what_took_its_place(module, former, name):
    found = getattr(importlib.import_module(module), former)
    place, _, name = name.rpartition(".")
    present = getattr(importlib.import_module(place or module), name)
    assert found is present or found.__wrapped__ is present


def test_a_name_that_never_was_is_refused_as_python_does():
    with pytest.raises(ImportError, match="cannot import name 'repack'"):
        from bundle.training.batched.slices import repack  # noqa: F401


def test_scripts_written_for_the_former_names_run():
    from bundle.training.packed_samples import PackedSamples
    from bundle.training.packed_slices import pack_slices

    packed = pack_slices({"drawn": make_pool((1,))}, nameless=["drawn"])
    assert PackedSamples.__name__ == "BatchedSamples" and list(packed.about) == ["drawn"]
