"""Every recipe trains: shortened, with a tiny network of the family's kind on generated slices."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from recipe_room import SHORTER, check_training, small_run
from recipe_room import narrow_decoders as narrow_decoders
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from training_room import AUTOMATIC, GRID, SIZE, make_network_like, make_slice
from training_room import one_thread as one_thread

from bundle.engines.cache import PreparedCache
from bundle.families.checkpoints import open_checkpoint
from bundle.families.family import build_network, load_family
from bundle.interactive.slice_model import SliceMask, SlicePredictor, SlicePrompt, SliceView
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.vit import VIT_VARIANTS
from bundle.training.batches import collate
from bundle.training.masked import Reconstruction

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "configs" / "recipes").glob("*.json"))
ENCODERS, METHODS, PARTS = ("vit_h", "vit_b", "vit_t"), ("full", "adapter", "lora"), ("both", "decoder")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_and_leaves_a_checkpoint(tmp_path, recipe):
    run = small_run(tmp_path, recipe, **SHORTER.get(recipe, {}))
    own = load_family(run.get_parsed_content("family_name")).contract
    assert run.get_parsed_content("train#dataset").contract == replace(own, size=SIZE)
    check_training(run, tmp_path, recipe)


class Watched:
    """Which of a decoder's masks (0 is the single one) learn, and which one was answered last."""

    def __init__(self, network: PromptableSam) -> None:
        self.learned, self.last, self.predict = set(), None, network.mask_decoder.predict_masks
        network.mask_decoder.predict_masks = self

    def __call__(self, **inputs) -> tuple[torch.Tensor, torch.Tensor]:
        self.last, iou = self.predict(**inputs)
        if self.last.requires_grad:
            self.last.register_hook(lambda g: self.learned.update(g.abs().amax(dim=(0, 2, 3)).nonzero()[:, 0].tolist()))
        return self.last, iou

    def answered(self, answer: SliceMask) -> set[int]:
        """The masks that stand for this answer: the single one, or all candidates, of which the best one learns."""
        (number,) = [i for i, logits in enumerate(self.last[0]) if torch.equal(logits, answer.logits)]
        return {0} if number == 0 else {1, 2, 3}


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in (*AUTOMATIC, "mae")])
def test_what_a_recipe_trains_is_what_a_user_is_shown(tmp_path, recipe):
    """Every kind of prompt is answered by masks that have learned from the recipe's own questions."""
    run = small_run(tmp_path, recipe, **SHORTER.get(recipe, {}))
    network, samples = run.get_parsed_content("network").train(), run.get_parsed_content("train#dataset")
    prompts, watched = run.get_parsed_content("family").prompts, Watched(network)
    for step in range(8):  # they start from boxes and from points
        if watched.learned and (prompts == ("box",) or watched.learned >= {0, 1} or step == 4):
            break
        batch = collate([samples[2 * step], samples[2 * step + 1]])
        batch.step = step
        for terms in islice(run.get_parsed_content("objective")(network, batch), 1):
            if terms.total.requires_grad:
                terms.total.backward()
    predictor = SlicePredictor(network, run.get_parsed_content("contract"), store=PreparedCache())
    part, box = make_slice(), np.array([8.0, 30.0, 44.0, 45.0])
    view = SliceView(part.picture, part.intensity)
    point = {"points": np.array([[20.0, 38.0]]), "point_labels": np.array([1])}
    first = predictor.predict(view, SlicePrompt(box=box))
    assert watched.learned & watched.answered(first), "a box"
    if "point" in prompts:
        assert watched.learned & watched.answered(predictor.predict(view, SlicePrompt(**point))), "a point"
    if "mask" in prompts:
        corrected = predictor.predict(view, SlicePrompt(**point, box=box, previous=first))
        assert watched.learned & watched.answered(corrected), "a correction"


@pytest.mark.parametrize("name", ["sam_med2d", "ft_sam"])
def test_sam_med2d_answers_as_its_own_code_does(name):
    """Whatever it is asked: of three masks the one of highest predicted IoU; an earlier mask after its sigmoid."""
    family = load_family(name)
    network = make_network_like(family).eval()
    predictor = SlicePredictor(network, replace(family.contract, size=SIZE), store=PreparedCache())
    part = make_slice()
    view, box = SliceView(part.picture, part.intensity), np.array([8.0, 30.0, 44.0, 45.0])
    first = predictor.predict(view, SlicePrompt(box=box))
    again = predictor.predict(view, SlicePrompt(box=box, previous=first))
    image = predictor.contract.to_input(part.picture, part.intensity, first.placement)
    sam = as_official(network)
    square = torch.from_numpy(first.placement.box_to_square(box)).float()[None]
    for answer, mask in ((first, None), (again, first.logits[None, None].sigmoid())):
        sparse, dense = sam.prompt_encoder(points=None, boxes=square, masks=mask)
        with torch.no_grad():
            logits, iou = sam.mask_decoder(
                image_embeddings=network.prepare(image[None]).tensors["embedding"],
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
        torch.testing.assert_close(answer.logits, logits[0, iou[0].argmax()], atol=1e-5, rtol=0)


def as_official(network: PromptableSam) -> Sam:
    """segment-anything's own prompt encoder and mask decoder with a network's weights."""
    sam = Sam(
        network.image_encoder,
        PromptEncoder(256, (GRID, GRID), (SIZE, SIZE), 16),
        MaskDecoder(
            transformer_dim=256, transformer=TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
        ),
    )
    sam.load_state_dict(network.state_dict())
    return sam.eval()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_where_its_constants_come_from(recipe):
    content = json.loads((ROOT / "configs" / "recipes" / f"{recipe}.json").read_text())
    assert content["run_name"] == recipe and len(content["_desc_"]) > 80


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_only_what_differs(recipe):
    common = json.loads((ROOT / "configs" / "train.json").read_text())
    content = json.loads((ROOT / "configs" / "recipes" / f"{recipe}.json").read_text())
    assert [key for key, value in content.items() if key in common and common[key] == value] == []


@pytest.mark.parametrize("architecture, tuning, parts", list(product(ENCODERS, METHODS, PARTS)))
def test_each_of_finetune_sams_eighteen_trains_what_it_says(tmp_path, monkeypatch, architecture, tuning, parts):
    for variant in VIT_VARIANTS:  # narrow and shallow, but the family's own builder, tuning and order of blocks
        monkeypatch.setitem(VIT_VARIANTS, variant, (64, 2, 4, (1,)))
    options = {"classes": 3, "image_size": 64} | ({"grid": 4} if architecture == "vit_t" else {})
    network_def = json.loads((ROOT / "configs" / "train.json").read_text())["network_def"]
    choice = {"architecture": architecture, "tuning": tuning, "parts": parts}
    small = {"network_def": network_def, "network_options": options, "steps_per_epoch": 1}
    run = small_run(tmp_path, "finetune_sam", **choice, **small)
    family = load_family(f"finetune_sam-{architecture}-{tuning}_{parts}")
    assert run.get_parsed_content("family") == family
    network = run.get_parsed_content("network")
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    check_training(run, tmp_path, "finetune_sam")
    moved = {name.split(".")[0] for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert "mask_decoder" in moved and ("image_encoder" in moved) == (parts == "both")
    assert open_checkpoint(tmp_path / "best.safetensors").metadata["family"] == family.name


def test_a_start_that_is_not_here_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    run = small_run(tmp_path, "medsam", start="sam_vit_h")
    run.get_parsed_content("initialize")
    with pytest.raises(RuntimeError) as failed:
        run.get_parsed_content("run")
    sys.excepthook(failed.type, failed.value, failed.tb)
    assert capsys.readouterr().err.startswith("error: the weights of sam_vit_h are not at ")


def test_few_shot_training_sees_five_slices(tmp_path):
    assert len(small_run(tmp_path, "few_shot").get_parsed_content("training_pool")) == 5


@pytest.mark.parametrize("family, options", [("tiny_vit", {}), ("medico_sam_2d", {"whole_network#classes": 2})])
def test_masked_auto_encoding_needs_no_labels(tmp_path, family, options):
    unlabelled = "$[training_room.make_slice(i, ids=(), annotated=()) for i in range(3)]"
    pools = {"training_pool": unlabelled, "validation_pool": unlabelled}
    run = small_run(tmp_path, "mae", family_name=family, **pools, **options)
    run.get_parsed_content("run")
    assert open_checkpoint(tmp_path / "best.safetensors").metadata["training_data"]["labelled"]["slices"] == 3


def test_masked_auto_encoding_refuses_an_encoder_of_volumes():
    with pytest.raises(ValueError, match="expected an encoder of slices, got medico_sam_3d's"):
        Reconstruction(make_network_like(load_family("medico_sam_3d"), classes=2))


def test_masked_auto_encoding_refuses_a_network_without_an_encoder():
    with pytest.raises(ValueError, match=r"got a U-Net, .* such as tiny_vit"):
        Reconstruction(build_network("default", random=True))


def test_a_run_from_mae_takes_its_encoder(tmp_path):
    run = small_run(tmp_path, "mae")
    run.get_parsed_content("run")
    source = open_checkpoint(tmp_path / "best.safetensors").state_dict
    started = small_run(
        tmp_path, "default", family_name="tiny_vit", start=str(tmp_path / "best.safetensors")
    ).get_parsed_content("network")
    name = "image_encoder.patch_embed.conv1.conv.weight"
    torch.testing.assert_close(started.state_dict()[name], source[name].float(), atol=1e-3, rtol=1e-2)


@pytest.mark.slow
def test_mlflow_records_a_run_when_asked_for(tmp_path):
    small_run(tmp_path, "medsam", mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db").get_parsed_content("run")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        recorded = {row[0] for row in database.execute("select distinct key from metrics")}
    assert {"loss", "val_dice"} <= recorded


def test_train_json_has_the_properties_of_a_monai_bundle(tmp_path):
    workflow = ConfigWorkflow(
        config_file=str(ROOT / "configs" / "train.json"),
        meta_file=str(ROOT / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(ROOT),
        output_dir=str(tmp_path),
        training_pool="$training_room.make_pool((2,))",
        validation_pool="$training_room.make_pool((1,))",
        organs="$training_room.ORGANS",
        imports=["$import os", "$import torch", "$import training_room"],
    )
    workflow.initialize()
    assert workflow.check_properties() == []
