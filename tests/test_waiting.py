"""PyTorch's threads wait asleep in every process that we start."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.waiting import PASSIVE
from monailabel_app.server.launch import server_environment

ROOT = Path(__file__).resolve().parent.parent
# What loads PyTorch, and with it the runtime that reads the environment once.
LOADERS = {"torch", "torchvision", "monai", "timm", "ignite", "segment_anything", "monailabel"}


def set_in(program: str, **environment: str) -> list[str]:
    """What a program without our settings, but with these, finds in its environment after it ran."""
    clean = {name: value for name, value in os.environ.items() if name not in PASSIVE}
    command = [sys.executable, "-c", f"{program}; import os; print(*map(os.environ.get, {list(PASSIVE)}))"]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.split()


def test_importing_the_bundle_chooses_passive_waiting_without_loading_pytorch():
    assert set_in("import bundle, sys; assert 'torch' not in sys.modules") == ["PASSIVE", "0"]


def test_what_the_user_has_set_stays():
    assert set_in("import bundle", OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "0"]


def test_a_process_that_loaded_pytorch_before_knows_that_it_is_too_late():
    program = (
        "import sys, os; sys.modules['torch'] = sys; os.environ.pop('OMP_NUM_THREADS', None)"
        "; import bundle.waiting as w; os.cpu_count = lambda: 2"
        "; os.getloadavg = lambda: (99, 0, 0); assert w.waits_actively()"
        "; os.getloadavg = lambda: (1, 0, 0); assert not w.waits_actively()"
    )
    set_in(program)


def test_the_server_waits_passively():
    assert all(name in server_environment() for name in PASSIVE)


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_a_script_imports_the_bundle_before_anything_that_loads_pytorch(path):
    modules = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            modules += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module.split(".")[0])
    loaders = [module for module in modules if module in LOADERS]
    if loaders:
        assert "bundle" in modules and modules.index("bundle") < modules.index(loaders[0])
