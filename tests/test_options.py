"""A tuned checkpoint says itself what its network has, at every door; what it says is checked."""

from __future__ import annotations

import json
from inspect import signature

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from evaluation_room import CONFIGS, run_bundle
from monai.bundle import ConfigParser, ckpt_export
from training_room import CONTRACT, ORGANS, SIZE, make_slice

from bundle.commands.export import export
from bundle.data.volume import Volume, read_label, write_volume
from bundle.errors import CheckpointError, FamilyError, MonaiSamError
from bundle.families.builders import prompted_unet
from bundle.families.checkpoints import load_checkpoint, save_checkpoint
from bundle.families.family import build_network, load_family
from bundle.families.options import agreed_options, trained_options
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.slice_model import SlicePrompt, SliceView
from bundle.networks.tuning.peft import tuning_names
from bundle.prompts.batch import PromptBatch
from monailabel_app.main import MonaiSam
from monailabel_app.server.launch import APP

LORA = json.loads((CONFIGS / "tuning" / "lora.json").read_text())["network_options"]
ADAPTERS = json.loads((CONFIGS / "tuning" / "adapters.json").read_text())["network_options"]
TUNINGS = {"lora": LORA, "adapters": ADAPTERS}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A person's folder: a family of 64 px, its checkpoints with LoRA, with adapters and plain, a picture and a box."""
    folder = tmp_path_factory.mktemp("mine")
    network_def = {
        "_target_": "bundle.families.builders.prompted_unet",
        "image_size": SIZE,
        "widths": [8, 16, 16],
        "depths": [1, 1, 1],
    }
    contract = {**load_family("default").contract_def, "size": CONTRACT.size}
    family = {"name": "tiny", "title": "for tests", "network_def": network_def, "contract": contract}
    (folder / "tiny.json").write_text(json.dumps(family))
    for name, options in {"plain": {}, **TUNINGS}.items():
        network = build_network(folder / "tiny.json", random=True, seed=1, options=options)
        for parameter in network.parameters():  # LoRA starts with zeros, which would change nothing
            torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
        metadata = {"family": "tiny", "contract": contract, "network_options": options}
        save_checkpoint(network, folder / f"{name}.safetensors", metadata=metadata, half=False)
    picture = make_slice().picture
    affine = [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    write_volume(Volume(picture.T[:, :, None], affine, "windowed"), folder / "picture.png")
    prompts = {"objects": [{"name": "bar", "label": 1, "box": [[8, 33, 0], [40, 42, 0]]}]}
    (folder / "prompts.json").write_text(json.dumps(prompts))
    return folder


@pytest.fixture(scope="module")
def expected(mine):
    """Of each tuning the network as it was trained, built with its options by hand."""
    networks = {}
    for name, options in TUNINGS.items():
        networks[name] = build_network(mine / "tiny.json", random=True, options=options)
        load_checkpoint(networks[name], mine / f"{name}.safetensors", load_family(mine / "tiny.json"))
    return networks


def same(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    one, two = network.state_dict(), other.state_dict()
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_segmenter_opens_it(mine, expected, tuning):
    segmenter = Segmenter.from_family(mine / "tiny.json", checkpoint=mine / f"{tuning}.safetensors", device="cpu")
    assert same(segmenter.predictor.network, expected[tuning]) and tuning_names(segmenter.predictor.network)
    part, box = make_slice(), np.array([8.0, 33.0, 40.0, 42.0])
    view = SliceView(part.picture, part.intensity)
    plain = Segmenter.from_family(mine / "tiny.json", checkpoint=mine / "plain.safetensors", device="cpu")
    tuned, untuned = (s.predictor.predict(view, SlicePrompt(box=box)).logits for s in (segmenter, plain))
    assert not torch.allclose(tuned, untuned)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_inference_runs_it_without_its_layer(mine, tuning, tmp_path):
    run_bundle(
        "inference",
        family_name=str(mine / "tiny.json"),
        checkpoint=str(mine / f"{tuning}.safetensors"),
        image=str(mine / "picture.png"),
        prompts=str(mine / "prompts.json"),
        output_dir=str(tmp_path),
        output_ext=".png",
        dimension=2,
    )
    assert read_label(tmp_path / "picture.png").shape == (48, 48, 1)


@pytest.mark.parametrize("config", [("inference",), ("evaluate",), ("evaluate", "before_after"), ("train",)])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_every_config_builds_it_with_its_layer_and_without(mine, expected, config, tuning):
    for layers in (config, (*config, f"tuning/{tuning}")):
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / f"{name}.json") for name in layers])
        parser["family_name"], parser["checkpoint"] = str(mine / "tiny.json"), str(mine / f"{tuning}.safetensors")
        assert same(parser.get_parsed_content("network_def"), expected[tuning])


@pytest.mark.parametrize(("checkpoint", "layer"), [("lora", "adapters"), ("plain", "lora"), ("adapters", "lora")])
def test_a_layer_that_contradicts_the_checkpoint_is_refused(mine, checkpoint, layer):
    asked = f"but network_options .* ask for {'lora encoder' if layer == 'lora' else 'adapter encoder'}"
    with pytest.raises(CheckpointError, match=f"{checkpoint}.safetensors was trained with tuning = .*{asked}"):
        build_network(mine / "tiny.json", checkpoint=mine / f"{checkpoint}.safetensors", options=TUNINGS[layer])


def test_a_layer_may_say_what_the_checkpoint_leaves_to_the_defaults(mine, expected):
    options = {"tuning": ({"kind": "lora"}, {"kind": "lora", "part": "decoder", "blocks": None})}
    network = build_network(mine / "tiny.json", checkpoint=mine / "lora.safetensors", options=options)
    assert same(network, expected["lora"])


def test_the_server_opens_it(mine, expected, tmp_path):
    conf = {"family": str(mine / "tiny.json"), "checkpoint": str(mine / "lora.safetensors"), "device": "cpu"}
    assert same(MonaiSam(str(APP), str(tmp_path), conf)._segmenter.predictor.network, expected["lora"])


def run_export(*words):
    return CliRunner().invoke(export, [str(word) for word in words])


def test_it_is_exported(mine, expected, tmp_path):
    chosen = ["--family", str(mine / "tiny.json"), "--checkpoint", str(mine / "lora.safetensors")]
    answer = run_export("torchscript", tmp_path, *chosen)
    assert answer.exit_code == 0 and answer.output.splitlines()[0] == str(tmp_path / "network.ts")
    network, graph = expected["lora"], torch.jit.load(tmp_path / "network.ts")
    prepared = network.prepare(torch.randn(1, 3, SIZE, SIZE))
    corners = torch.tensor([[[8.0, 33.0], [40.0, 42.0]]])
    nothing = torch.full((1, 1, SIZE, SIZE), torch.nan)
    with torch.no_grad():
        logits, _ = graph(tuple(prepared.tensors.values()), torch.tensor([0]), corners, torch.tensor([[2, 3]]), nothing)
        direct = network.predict_all(prepared, PromptBatch(boxes=corners.view(1, 4))).logits
    torch.testing.assert_close(logits, direct, atol=1e-4, rtol=1e-3)


def test_monais_export_takes_it(mine, expected, tmp_path):
    chosen = ["--family", str(mine / "tiny.json"), "--checkpoint", str(mine / "adapters.safetensors")]
    assert run_export("state_dict", tmp_path / "model.pt", *chosen).exit_code == 0
    ckpt_export(
        net_id="network_def",
        filepath=tmp_path / "model.ts",
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=CONFIGS / "metadata.json",
        config_file=CONFIGS / "inference.json",
        family_name=str(mine / "tiny.json"),
        checkpoint=str(mine / "adapters.safetensors"),
    )
    image = torch.rand(3, 3, SIZE, SIZE)
    with torch.no_grad(), torch.jit.optimized_execution(False):
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), expected["adapters"](image))


def test_an_export_that_cannot_be_made_ends_in_a_sentence(mine, tmp_path):
    chosen = ["--family", str(mine / "tiny.json"), "--checkpoint", str(mine / "none.safetensors")]
    answer = run_export("official", tmp_path / "x.pth", *chosen)
    assert answer.exit_code == 2
    assert "none.safetensors' does not exist" in answer.output


def test_a_tuned_file_that_does_not_say_so_asks_for_its_options(mine, expected, tmp_path):
    torch.save(expected["lora"].state_dict(), tmp_path / "lora.pth")
    with pytest.raises(CheckpointError, match=r"has LoRA or adapters and does not say which: give .* network_options"):
        build_network(mine / "tiny.json", checkpoint=tmp_path / "lora.pth")
    network = build_network(mine / "tiny.json", checkpoint=tmp_path / "lora.pth", options=LORA)
    assert same(network, expected["lora"])


def test_training_says_when_it_leaves_lora_behind(mine, caplog):
    from bundle.training.start import start_network

    start_network(build_network(mine / "tiny.json", random=True), start=mine / "lora.safetensors")
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "have no place in the network, such as mask_decoder" in line and ".w_" in line


@pytest.mark.parametrize(
    "options",
    [
        {"_target_": "os.system"},
        {"checkpoint": "/etc/passwd"},
        {"classes": "$__import__('os').system('true')"},
        {"classes": True},
        {"classes": 1},
        {"classes": 10**9},
        {"image_size": 256.0},
        {"image_size": 1 << 20},
        {"variant": ["vit_b"]},
        {"variant": "vit_g"},
        {"widths": [8] * 100},
        {"widths": [1 << 30]},
        {"depths": []},
        {"fine": 1},
        {"tuning": "lora"},
        {"tuning": [{"kind": "lora"}] * 17},
        {"tuning": [{"kind": "lora", "rank": 10**9}]},
        {"tuning": [{"kind": "lora", "rank": None}]},
        {"tuning": [{"kind": ["lora"]}]},
        {"tuning": [{"kind": "lora", "part": "@network"}]},
        {"tuning": [{"kind": "lora", "blocks": [-1]}]},
        {"tuning": [{"kind": "lora", "_target_": "os.system"}]},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused(options):
    with pytest.raises(CheckpointError, match=r"x\.safetensors was not opened: its metadata"):
        trained_options({"network_options": options}, "x.safetensors")


@pytest.mark.parametrize(
    "options",
    [{}, LORA, ADAPTERS, {"classes": 14}, {"image_size": 512, "window_sizes": [8, 16, 8], "fine": True}],
    ids=str,
)
def test_options_of_trainings_are_taken(options):
    assert trained_options({"network_options": options}, "x") == options
    assert trained_options({"family": "default"}, "x") is None


def test_metadata_with_a_wrong_option_opens_at_no_door(mine, tmp_path):
    metadata = {"family": "tiny", "network_options": {"tuning": [{"kind": "lora", "rank": 10**9}]}}
    save_checkpoint(
        prompted_unet(image_size=SIZE, widths=[8], depths=[1]), tmp_path / "x.safetensors", metadata=metadata
    )
    with pytest.raises(CheckpointError, match="network option tuning must be a list"):
        Segmenter.from_family(mine / "tiny.json", checkpoint=tmp_path / "x.safetensors")


def test_a_network_larger_than_its_weights_is_refused_before_it_takes_memory(mine, tmp_path):
    metadata = {"family": "tiny", "network_options": {"widths": [2048] * 8, "depths": [32] * 8, "image_size": 256}}
    save_checkpoint(
        prompted_unet(image_size=SIZE, widths=[8], depths=[1]), tmp_path / "x.safetensors", metadata=metadata
    )
    with pytest.raises(CheckpointError, match="does not fit family tiny"):
        build_network(mine / "tiny.json", checkpoint=tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100}, "image_size must be a positive multiple of 8, got 100"),
        ({"widths": [25, 16, 16]}, r"the network of tiny cannot be built like that: num_channels .* must be divisible"),
    ],
)
def test_options_that_make_no_network_end_in_a_sentence(mine, tmp_path, options, message):
    metadata = {"family": "tiny", "network_options": options}
    save_checkpoint(
        prompted_unet(image_size=SIZE, widths=[8], depths=[1]), tmp_path / "x.safetensors", metadata=metadata
    )
    with pytest.raises(MonaiSamError, match=message):
        build_network(mine / "tiny.json", checkpoint=tmp_path / "x.safetensors")


def test_another_familys_checkpoint_compares_only_what_it_names():
    """medico_sam_2d-joint opens a joint medico_sam, which says nothing of the classes of its decoder."""
    accepted = signature(prompted_unet)
    asked = {"image_size": 128}
    assert agreed_options({"network_options": {}}, "x", asked, own=None, signature=accepted) == asked
    with pytest.raises(
        CheckpointError, match="trained with the option 'classes', which this family's network does not have"
    ):
        agreed_options({"network_options": {"classes": 3}}, "x", {}, own=None, signature=accepted)


def test_an_option_that_the_builder_does_not_know_is_refused(mine):
    with pytest.raises(FamilyError, match="has no option 'depth'"):
        build_network(mine / "tiny.json", checkpoint=mine / "lora.safetensors", options={"depth": 3})


def test_a_training_writes_its_options_into_the_checkpoint():
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "tuning" / "lora.json")])
    parser["organs"], parser["train#dataset#sources"] = ORGANS, {}
    assert parser.get_parsed_content("save_best#metadata#network_options") == LORA
