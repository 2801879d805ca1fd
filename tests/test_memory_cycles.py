"""The instrument that looks for leaks finds one, and none where there is none."""

from __future__ import annotations

import gc
import mmap
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts/memory_cycles.py"))
growth, measure, resident = SCRIPT["growth"], SCRIPT["measure"], SCRIPT["resident"]
SIZE = 2**20


def flat_with_noise(cycles: int) -> list[int]:
    return [10**9 + (number * 7919 % 13) * SIZE for number in range(cycles)]


def test_what_fills_at_first_and_then_stays_is_flat():
    filling = [min(number, 20) * 10 * SIZE for number in range(200)]
    assert growth(filling) == 0
    assert abs(growth(flat_with_noise(200))) < SIZE / 10
    assert growth([*flat_with_noise(199), 2 * 10**9]) < SIZE / 10  # one that is read at a bad moment


@pytest.mark.parametrize("cycles", [8, 40, 200])
def test_what_grows_by_an_image_each_cycle_is_found(cycles):
    leaking = [memory + number * SIZE for number, memory in enumerate(flat_with_noise(cycles))]
    assert growth(leaking) > SIZE / 10


@pytest.fixture
def few_objects():
    """What other tests have left is not looked through each time that garbage is collected: that takes seconds."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("few_objects")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_is_kept_is_seen_and_memory_that_is_given_back_is_not():
    kept = []

    def leak(_: int) -> None:
        kept.append(mmap.mmap(-1, 16 * SIZE))
        kept[-1].write(b"x" * 16 * SIZE)

    before = resident()
    assert growth(measure(leak, 8)) > 12 * SIZE
    for one in kept:
        one.close()
    assert resident() - before < 32 * SIZE
