"""The default family trains where PyTorch, NumPy, OpenCV, SciPy and safetensors are all that is installed."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

from training_room import make_pool

from bundle.training.batched.file import gather_into

# Beside those five what they need themselves, by the names that are imported.
THERE = {"torch", "numpy", "cv2", "scipy", "safetensors", "bundle"}
OF_TORCH = {"typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec"}
OF_TORCH |= {"torchgen", "functorch", "triton", "nvidia", "setuptools", "pkg_resources", "_distutils_hack"}

TRAINING = """
import json, sys

sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))  # None: as if they were not installed
import torch

from bundle.networks.prompted_unet import PromptedUNet
from bundle.training import batches, draws, interface, schedules
from bundle.training.batched.file import read_slice_tensors
from bundle.training.batched.objective import BatchedObjective
from bundle.training.batched.samples import BatchedSamples
from bundle.training.batched.slices import choose
from bundle.training.batched import cube_training  # of the network of volumes
from bundle.training.losses import PromptLoss
from bundle.training.muon import orthogonalised
from bundle.transforms.contract import Contract

torch.set_num_threads(1)
contract = Contract.from_config({**json.load(open(sys.argv[2]))["contract"], "size": 64})
samples = BatchedSamples(choose(read_slice_tensors(sys.argv[3]), {"labelled": 1.0}), contract, batch_size=4)
network = PromptedUNet(image_size=64, widths=(8, 16, 16), depths=(1, 1, 1))
assert isinstance(samples, interface.Sampler) and isinstance(samples[0], interface.Batch)
(terms,) = BatchedObjective(PromptLoss())(network, samples[0])
terms.total.backward()
learned = [orthogonalised(p.grad.flatten(1)[None]).any() if p.ndim > 1 else p.grad.any() for p in network.parameters()]
print(json.dumps({"loss": float(terms.total.detach()), "learned": float(torch.tensor(learned).float().mean())}))
"""


def test_a_step_of_the_shipped_recipe_needs_nothing_else(repository, tmp_path):
    gather_into(tmp_path / "slices.npz", {"labelled": make_pool((1, 1))})
    blocked = sorted(set(importlib.metadata.packages_distributions()) - THERE - OF_TORCH)
    assert {"monai", "nibabel", "SimpleITK", "tqdm", "timm", "segment_anything", "skimage", "PIL"} <= set(blocked)
    arguments = [json.dumps(blocked), str(repository / "configs/families/default.json"), str(tmp_path / "slices.npz")]
    done = subprocess.run([sys.executable, "-c", TRAINING, *arguments], capture_output=True, text=True, cwd=repository)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0 < result["loss"] < 10 and result["learned"] > 0.9
