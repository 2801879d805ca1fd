"""The network of volumes trains on packed cubes, and goes on bit for bit where it was stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.errors import TrainingError
from bundle.families.checkpoints import open_checkpoint
from bundle.training.batched import cubes
from bundle.training.batched.augmentation import BatchRandom
from bundle.training.batched.cube_samples import CubeSamples
from bundle.training.batched.cube_training import CubeRecipe, CubeTraining
from bundle.training.batched.cube_user import has_hollow_middle
from bundle.training.batched.cubes import SourceVolume, pack, read_cubes

TINY = CubeRecipe(steps=3, batch_size=2, size=16, warmup=2, widths=(8, 16), depths=(1, 1), samples={"shape_share": 0.5})


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Two small volumes: a CT with a ball and a bar, and an MR with grey regions alone."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("cubes")
    i, j, k = np.indices((32, 32, 24))
    labels = np.zeros((32, 32, 24), np.uint8)
    labels[(i - 10) ** 2 + (j - 10) ** 2 + (k - 12) ** 2 < 50] = 1
    labels[20:26, 4:28, 8:16] = 2
    array = labels * 100 + random.normal(0, 10, labels.shape)
    ct = SourceVolume("ball", "ct", array, labels, (2.0, 2.0, 3.0), True)
    bright = SourceVolume("grey", "mr", array + 500, np.zeros_like(labels), (2.0, 2.0, 3.0), False, regions=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cubes, "SIDE", 32)
        pack([ct, bright], folder)
    return folder


@pytest.fixture
def small(packed, monkeypatch):
    """What was packed, in cubes of 32 cells."""
    monkeypatch.setattr("bundle.training.batched.cube_samples.SIDE", 32)
    return read_cubes(packed)


def test_volumes_are_packed_at_one_spacing_with_their_objects(small):
    assert small.names == ("ball", "grey") and small.images.shape == (2, 32, 32, 32)
    assert small.spacing.tolist() == pytest.approx([2.25, 2.25])  # 72 mm in 32 cells
    labelled = small.objects[small.origin == cubes.LABELS]
    assert labelled[:, 2].tolist() == [1, 2] and (labelled[:, 0] == 0).all()
    assert (small.origin == cubes.REGIONS).any() and (small.objects[small.origin == cubes.REGIONS, 0] == 1).all()
    assert small.images[1].min() >= -1000 and small.images[1].max() <= 1000


def test_the_draws_add_up_to_the_shares(small):
    weights = small.weights((0.75, 0.25, 0.0), {"ct": 1.0})
    assert weights.sum() == pytest.approx(1)
    assert weights[small.origin == cubes.LABELS].sum() == pytest.approx(0.75)


def test_hollow_objects_are_drawn_as_often_as_a_recipe_says(small):
    labelled = small.origin == cubes.LABELS
    assert not small.hollow[labelled].any()  # a ball and a bar
    odd = replace(small, hollow=torch.tensor([True, *[False] * (len(small) - 1)]))
    first, second = odd.weights((1.0, 0.0, 0.0), {"ct": 1.0}, hollow=4.0)[labelled].tolist()
    assert (first, second) == pytest.approx((0.8, 0.2))
    assert torch.equal(odd.weights((1.0, 0.0, 0.0), {}), small.weights((1.0, 0.0, 0.0), {}))


def test_a_ring_is_hollow(tmp_path, monkeypatch):
    monkeypatch.setattr(cubes, "SIDE", 32)
    i, j, k = np.indices((32, 32, 32))
    away = np.hypot(i - 15, j - 15)
    labels = ((away > 6) & (away < 11) & (abs(k - 15) < 4)).astype(np.uint8) + 2 * (away < 4)
    pack([SourceVolume("ring", "ct", labels * 100.0, labels, (1.0, 1.0, 1.0), True)], tmp_path)
    assert read_cubes(tmp_path).hollow.tolist() == [True, False]


def test_bowls_have_something_else_in_their_middle(small):
    options = {"size": 32, "batch_size": 24, "shape_share": 1.0}
    blobs, bowls = (CubeSamples(small, bowl_share=share, **options) for share in (0.0, 1.0))
    random = [BatchRandom.from_key("cpu", 24, 3) for _ in range(2)]
    whole, hollow = blobs._blob(random[0])[:, 0], bowls._blob(random[1])[:, 0]
    assert (whole | ~hollow).all() and (whole & ~hollow).flatten(1).any(dim=1).float().mean() > 0.9
    assert has_hollow_middle(hollow).float().mean() > 0.5 > has_hollow_middle(whole).float().mean()


def test_a_piece_that_was_changed_is_refused(packed, tmp_path):
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "cubes_0001.npz").write_bytes(b"other")
    with pytest.raises(TrainingError, match="cubes_0001"):
        read_cubes(tmp_path)


def test_a_piece_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cubes, "SIDE", 8)
    monkeypatch.setattr(cubes, "PIECE_BYTES", 10)
    with pytest.raises(TrainingError, match="at most 10"):
        pack([SourceVolume("a", "a", np.zeros((4, 4, 4)), np.zeros((4, 4, 4), int), (1, 1, 1), True)], tmp_path)


def test_a_training_that_was_stopped_goes_on_bit_for_bit(small, tmp_path):
    whole = CubeTraining(TINY, small, tmp_path / "whole")
    whole.run()
    CubeTraining(TINY, small, tmp_path / "parts").run(steps=1)
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('{"step": 2, "loss": 0.0}\n{"step": 3, ')  # killed before it was saved again
    resumed = CubeTraining(TINY, small, tmp_path / "parts")
    assert resumed.step == 1
    resumed.run()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == TINY.steps


def test_it_learns_and_leaves_a_checkpoint_of_the_family(small, tmp_path):
    training = CubeTraining(TINY, small, tmp_path)
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    training.run()
    changed = [not torch.equal(value, training.network.state_dict()[name]) for name, value in before.items()]
    assert np.mean(changed) > 0.9
    metadata = open_checkpoint(tmp_path / "best.safetensors").metadata
    assert metadata["family"] == "default_3d" and metadata["training_data"] == {"ct": 1, "mr": 1}


def test_a_state_of_another_recipe_is_refused(small, tmp_path):
    CubeTraining(TINY, small, tmp_path).run(steps=1)
    with pytest.raises(TrainingError, match="another recipe"):
        CubeTraining(CubeRecipe(steps=4, batch_size=2, size=16, widths=(8, 16), depths=(1, 1)), small, tmp_path)


def test_a_part_of_a_long_object_is_shown_around_one_of_its_cells(small):
    """The cubes of parts are smaller than the bar, which is 24 mm long and 6 mm thick, and hold a cell of it."""
    tensors = replace(small, objects=small.objects[1:2], origin=small.origin[1:2], sizes=small.sizes[1:2])
    tensors = replace(tensors, cells=small.cells[1:2], hollow=small.hollow[1:2])
    samples = CubeSamples(tensors, size=16, batch_size=64, shape_share=0.0, shares=(1.0, 0.0, 0.0), part_share=1.0)
    drawn = torch.zeros(64, dtype=torch.int64)
    centre, side = samples._windows(drawn, BatchRandom.from_key("cpu", 64, 0))
    low, high = tensors.objects[0, 3:6], tensors.objects[0, 6:9]
    assert side.min() < (high - low + 1).max() and side.max() <= 1.25 * (high - low + 1).max() + 1e-3
    near = (tensors.cells[0][None].float() - centre[:, None]).abs().amax(dim=2).amin(dim=1)
    assert (near <= side / 2).all() and (samples[0].masks.flatten(1).any(dim=1)).all()


def test_time_that_is_given_ends_a_training_and_its_rate(small, tmp_path):
    training = CubeTraining(replace(TINY, steps=10**6), small, tmp_path, seconds=1e-3)
    training.run()
    assert training.step == 1 and training.over >= 1 and (tmp_path / "best.safetensors").is_file()
    assert TINY.rate(0, 1.0) < 1e-5 < TINY.rate(2, 0.0)


@pytest.mark.parametrize("name", ["train", "continue", "hollow"])
def test_every_recipe_of_the_repository_trains(repository, small, tmp_path, name):
    recipe = CubeRecipe.read(repository / "configs" / "recipes" / "volumes" / f"{name}.json", batch_size=4, size=16)
    training = CubeTraining(replace(recipe, widths=(8, 16), depths=(1, 1)), small, tmp_path)
    training.run(steps=1)
    assert training.step == 1 and training.objective.hollow_box == (0.5 if name == "hollow" else 0.0)


def test_the_recipe_of_the_repository_is_one(repository, tmp_path):
    recipe = CubeRecipe.read(repository / "configs" / "recipes" / "volumes" / "train.json")
    assert recipe.rate(149) == pytest.approx(3e-3, rel=0.01)
    assert max(recipe.rate(0), recipe.rate(recipe.steps - 1)) < 1e-4
    (tmp_path / "wrong.json").write_text('{"step": 3}')
    with pytest.raises(TrainingError, match="'step'"):
        CubeRecipe.read(tmp_path / "wrong.json")
