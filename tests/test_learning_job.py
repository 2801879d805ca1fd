"""The job itself, shortened: two generated patients, a network of 64 px, two steps."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from evaluation_room import write_weights
from learning_room import write_small_family
from safetensors.torch import load_file
from test_export import vit

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import write_label, write_volume
from bundle.errors import TrainingError
from bundle.families.checkpoints import open_checkpoint, save_checkpoint
from bundle.families.family import build_network, load_family
from bundle.files import read_json
from bundle.interactive.segmenter import Segmenter
from bundle.networks.tuning.lora import lora_names
from bundle.networks.tuning.peft import set_trainable
from bundle.root import BUNDLE_ROOT
from monailabel_app.learning import gate, job
from monailabel_app.learning.gate import Score
from monailabel_app.learning.options import read_options
from monailabel_app.learning.weights import start_of, with_share


def accepted(folder, seed: int) -> dict:
    image, labels, names = make_phantom(shape=(40, 36, 12), spacing=(9.0, 9.0, 20.0), seed=seed)
    write_volume(image, folder / f"{seed}.nii.gz")
    write_label(labels.array == names["liver"], image, folder / f"{seed}-label.nii.gz")
    paths = {"image": str(folder / f"{seed}.nii.gz"), "label": str(folder / f"{seed}-label.nii.gz")}
    return {**paths, "names": {"liver": 1}, "patient": f"patient-{seed}"}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A folder with a request, and the files that it names."""
    folder = tmp_path_factory.mktemp("job")
    base = str(write_weights(write_small_family(folder), folder / "base.safetensors", seed=0))
    labels = [accepted(folder, seed) for seed in (1, 2)]
    request = {
        "options": read_options({"steps": 2, "tuning": "lora"}),
        "accepted": labels,
        "sides": {"patient-1": "training", "patient-2": "validation"},
        "family": str(folder / "tiny.json"),
        "base": base,
        "active": base,
        "cores": 1,
        "device": "cpu",
        "replay": str(folder / "replay.json"),
    }
    (folder / "request.json").write_text(json.dumps(request))
    return folder


@pytest.fixture(scope="module")
def done(room):
    """The result of the job; the phantoms are fewer and smaller."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "REPLAY_SEEDS", (2000,))
        patch.setattr(gate, "OBJECTS", {"held_out": 2, "replay": 1})
        pool = job.phantom_pool
        patch.setattr(job, "phantom_pool", lambda seeds, **o: pool(seeds, shape=(40, 36, 6), **o))
        layers = job.run_layers
        small = {"replay_pool": pool((1000,), contract=load_family(room / "tiny.json").contract, shape=(40, 36, 6))}
        patch.setattr(job, "run_layers", lambda names, values, **o: layers(names, values | small, **o))
        patch.setattr(torch, "set_num_threads", lambda count: None)
        return job.run(room)


def test_the_result_has_scores_before_and_after_and_a_verdict(done, room):
    assert done == read_json(room / "result.json")
    assert done["steps"] == 2 and done["labels"] == done["patients"] == 2 and done["structures"] == ["liver"]
    assert {(row["part"], row["structure"]) for row in done["after"]} >= {("held_out", "liver"), ("replay", "liver")}
    assert set(done["dsc"]) == set(done["nsd"]) == {"before", "after"}
    assert done["accepted"] == (not done["reasons"]) and done["held_out"] == "patients"


def test_the_candidate_opens_as_a_plain_network_of_the_family(done, room):
    checkpoint = open_checkpoint(room / "candidate.safetensors")
    assert checkpoint.metadata["recipe"] == "accepted" and checkpoint.metadata["family"] == "tiny"
    assert "network_options" not in checkpoint.metadata
    Segmenter.from_family(room / "tiny.json", checkpoint=room / "candidate.safetensors", device="cpu")


def test_it_says_where_it_is_and_how_far_the_training(done, room):
    assert read_json(room / "progress.json")["stage"] in ("good enough", "refused")
    assert read_json(room / "training" / "progress.json")["step"] == 2


def test_a_job_that_goes_on_does_nothing_twice(done, room, monkeypatch):
    monkeypatch.setattr(job, "REPLAY_SEEDS", ())
    for name in ("run_layers", "measure"):
        monkeypatch.setattr(job, name, None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    again = job.run(room)
    assert {**again, "seconds": 0} == {**done, "seconds": 0}


@pytest.mark.parametrize(("patients", "share"), [(1, 0.5), (2, 1.0)])
def test_of_an_only_patient_half_of_the_change_is_published_at_most(room, tmp_path, monkeypatch, patients, share):
    request = read_json(room / "request.json")
    sides = dict(list(request["sides"].items())[:patients])
    (tmp_path / "request.json").write_text(
        json.dumps({**request, "sides": sides, "accepted": request["accepted"][:patients]})
    )
    (tmp_path / "training").mkdir()
    tuned = write_weights(room / "tiny.json", tmp_path / "training" / "best.safetensors", seed=1)
    good = [Score("held_out", "liver", "box", (0.9,) * 3, (0.8,) * 3)]
    monkeypatch.setattr(job, "phantom_pool", lambda *_, **__: [])
    monkeypatch.setattr(job, "scores_before", lambda *_: good)
    monkeypatch.setattr(job, "scores_after", lambda *_: good)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    done = job.run(tmp_path)
    assert (done["accepted"], done["share"]) == (True, share)
    first, second, published = (
        load_file(path) for path in (request["base"], tuned, tmp_path / "candidate.safetensors")
    )
    for name, value in ((name, value.float()) for name, value in published.items() if value.is_floating_point()):
        between = torch.lerp(first[name].float(), second[name].float(), share)
        torch.testing.assert_close(value, between, rtol=1e-3, atol=1e-4)


def boxes(part: str, *dscs: float) -> list[Score]:
    return [Score(part, "liver", "box", dscs, (0.8,) * len(dscs))]


def test_labels_are_judged_by_all_of_the_change_and_losses_by_the_share_that_is_published():
    before = boxes("held_out", 0.7, 0.71, 0.72) + boxes("shape", 0.75, 0.76, 0.77)
    tried = {1.0: boxes("held_out", 0.85, 0.84, 0.88), 0.5: boxes("held_out", 0.65, 0.6, 0.6)}
    tried[0.25] = boxes("held_out", 0.74, 0.74, 0.75)  # under the mean shape, as what is served is
    verdict, share, after = job.choose_share(before, tried[1.0], tried.get, (0.5, 0.25))
    assert (verdict.accepted, share, after) == (True, 0.25, tried[0.25])


def test_of_labels_that_do_not_follow_their_images_no_share_is_tried():
    before, whole = boxes("held_out", 0.7, 0.7) + boxes("shape", 0.8, 0.81), boxes("held_out", 0.8, 0.8)
    verdict, share, after = job.choose_share(before, whole, None, (1.0, 0.5))
    assert (verdict.accepted, share, after) == (False, 1.0, whole) and "mean shape" in verdict.reasons[0]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_change_lies_between_the_two_networks(room, share):
    family = load_family(room / "tiny.json")
    first, second = (build_network(family, random=True, seed=seed).state_dict() for seed in (0, 1))
    between = with_share(family, first, second, share).state_dict()
    for name, value in ((name, value) for name, value in between.items() if value.is_floating_point()):
        torch.testing.assert_close(value, torch.lerp(first[name].float(), second[name].float(), share))


@pytest.mark.parametrize("kind", ["a U-Net", "a ViT"])
def test_lora_only_trains_what_lora_added_and_nothing_else(room, kind):
    layer = read_json(BUNDLE_ROOT / "configs" / "tuning" / "lora_only.json")
    options = layer["network_options"]
    family = load_family(room / "tiny.json")
    network = vit(options["tuning"]) if kind == "a ViT" else build_network(family, random=True, options=options)
    set_trainable(network, layer["trainable"])
    trained = {name for name, value in network.named_parameters() if value.requires_grad}
    assert trained == set(lora_names(network)) and any("mask_decoder" in name for name in trained)


def test_lora_of_the_base_is_folded_in_before_training_begins(room, tmp_path):
    family = load_family(room / "tiny.json")
    options = {"tuning": [{"kind": "lora", "part": "encoder"}]}
    network = build_network(family, random=True, options=options)
    for name, value in network.named_parameters():
        if ".w_b." in name:
            torch.nn.init.normal_(value, std=0.1)
    metadata = {"family": "tiny", "contract": dict(family.contract_def), "network_options": options}
    path = save_checkpoint(network, tmp_path / "lora.safetensors", metadata=metadata)
    plain = build_network(family, checkpoint=start_of(path, family, tmp_path))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(plain(image), build_network(family, checkpoint=path)(image), rtol=0.02, atol=0.02)


def test_what_the_tuning_would_replace_is_refused(room, tmp_path):
    family = load_family(room / "tiny.json")
    tuned = replace(family, network_def={**family.network_def, "tuning": [{"kind": "lora"}]})
    with pytest.raises(TrainingError, match="family tiny has adapters or LoRA of its own"):
        start_of(room / "base.safetensors", tuned, tmp_path)
    options = {"tuning": [{"kind": "adapter", "part": "encoder"}]}
    network = build_network(family, random=True, options=options)
    metadata = {"family": "tiny", "contract": dict(family.contract_def), "network_options": options}
    path = save_checkpoint(network, tmp_path / "adapters.safetensors", metadata=metadata)
    with pytest.raises(TrainingError, match="has a tuning of kind adapter"):
        start_of(path, family, tmp_path)


@pytest.mark.parametrize(
    ("steps", "done"), [(1, 1), (9, 9), (10, 10), (11, 10), (19, 18), (101, 99), (2000, 2000), (100_000, 100_000)]
)
def test_a_training_has_at_most_the_steps_that_were_asked_for(tmp_path, monkeypatch, steps, done):
    ran = []
    monkeypatch.setattr(job, "run_layers", lambda layers, changes, **_: ran.append(changes))
    monkeypatch.setattr(job, "start_of", lambda *_: tmp_path / "start.safetensors")
    asked = {"family": "tiny", "base": "base.safetensors", "cores": 1, "seconds": 60.0}
    job.train(SimpleNamespace(options=read_options({"steps": steps}), **asked), None, tmp_path, used=0.0)
    assert ran[0]["epochs"] * ran[0]["steps_per_epoch"] == done <= steps


def test_what_was_measured_is_not_measured_again(tmp_path):
    score = Score("replay", "liver", "box", (0.9,) * 3, (0.8,) * 3)
    assert job.kept_scores(tmp_path / "s.json", lambda: [score]) == [score]
    assert job.kept_scores(tmp_path / "s.json", lambda: 1 / 0) == [score]
