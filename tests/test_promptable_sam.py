"""PromptableSam answers what segment-anything answers, for many objects of many images at once."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import ImageEncoderViT, Sam, TwoWayTransformer
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from segment_anything.modeling import PromptEncoder as SamPromptEncoder
from torch import Tensor
from torch.nn.functional import interpolate

from bundle.engines.cache import PreparedCache
from bundle.errors import PromptError
from bundle.families.builders import prompted_unet, sam_tiny_vit, sam_vit
from bundle.families.checkpoints import CheckpointError
from bundle.families.export import as_segment_anything
from bundle.families.family import build_network, load_family
from bundle.interactive.slice_model import SlicePredictor, SlicePrompt, SliceView
from bundle.networks.interface import Prepared
from bundle.networks.promptable_sam import PromptableSam
from bundle.networks.vit import VIT_VARIANTS
from bundle.prompts.batch import PromptBatch
from bundle.transforms.contract import Contract

NAN = float("nan")
SIZE, GRID = 64, 4


def randomise(network: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter a random value: fresh SAM starts some at zero, which would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator) + 0.02


@pytest.fixture(scope="module")
def ours() -> PromptableSam:
    """A ViT SAM of width 64 with a windowed and a global block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VIT_VARIANTS, "vit_b", (64, 2, 4, (1,)))
        network = sam_vit("vit_b", image_size=SIZE).eval()
    randomise(network)
    return network


@pytest.fixture(scope="module")
def upstream(ours: PromptableSam) -> Sam:
    """segment-anything's own modules with the same weights."""
    sam = Sam(
        ImageEncoderViT(
            img_size=SIZE,
            embed_dim=64,
            depth=2,
            num_heads=4,
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=(1,),
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ),
        SamPromptEncoder(256, (GRID, GRID), (SIZE, SIZE), 16),
        SamMaskDecoder(
            transformer_dim=256, transformer=TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
        ),
    )
    sam.load_state_dict(ours.state_dict())
    return sam.eval()


@pytest.fixture(scope="module")
def embeddings() -> Tensor:
    """The embeddings of three images."""
    return torch.randn(3, 256, GRID, GRID, generator=torch.Generator().manual_seed(1))


def prepared(embeddings: Tensor) -> Prepared:
    return Prepared({"embedding": embeddings})


def first(embeddings: Tensor) -> Prepared:
    return prepared(embeddings[:1])


def upstream_decode(sam: Sam, embedding: Tensor, points=None, boxes=None, masks=None, multimask=True):
    """What SamPredictor.predict_torch does between the prompts and the low-resolution logits."""
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    return sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )


def some_points(n: int = 2, p: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    points = SIZE * torch.rand(n, p, 2, generator=generator)
    return points, torch.randint(0, 2, (n, p), generator=generator)


BOXES = torch.tensor([[3.0, 5.0, 40.0, 60.0], [10.0, 10.0, 20.0, 30.0]])


KINDS = {
    "point": PromptBatch(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[1]])),
    "box": PromptBatch(boxes=torch.tensor([[3.0, 5.0, 40.0, 60.0]])),
    "points": PromptBatch(torch.tensor([[[3.0, 4.0], [9.0, 9.0]]]), torch.tensor([[1, 0]])),
}


def some_masks(n: int = 2, grid: int = GRID) -> Tensor:
    return torch.randn(n, 1, 4 * grid, 4 * grid, generator=torch.Generator().manual_seed(3))


def some_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kinds", ["points", "boxes", "masks", "points boxes", "points boxes masks"])
@torch.no_grad()
def test_decode_equals_segment_anything(ours, upstream, embeddings, kinds, multimask):
    points, labels = some_points()
    given = {
        "points": (points, labels) if "points" in kinds else None,
        "boxes": BOXES if "boxes" in kinds else None,
        "masks": some_masks() if "masks" in kinds else None,
    }
    expected = upstream_decode(upstream, embeddings[:1], **given, multimask=multimask)
    prompts = PromptBatch(
        *(given["points"] or (None, None)), given["boxes"], given["masks"], torch.zeros(2, dtype=torch.long)
    )
    answer = ours.predict(prepared(embeddings), prompts, multimask=multimask)
    torch.testing.assert_close(answer.logits, expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(answer.iou, expected[1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_encode_equals_segment_anything(ours, upstream):
    images = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(
        ours.prepare(images).tensors["embedding"], upstream.image_encoder(images), atol=1e-5, rtol=0
    )


def contract_of_sam(size: int) -> Contract:
    return Contract.from_config({**load_family("sam_vit_b").contract_def, "size": size})


def check_against_predictor(network: PromptableSam, sam: Sam, picture: np.ndarray) -> None:
    """Compare from the uint8 picture to the logits: our contract and network, and SamPredictor."""
    size, grid = network.spec.input_shape[-1], network.grid_size
    contract = contract_of_sam(size)
    placement = contract.placement(*picture.shape[:2])
    image = contract.to_input(picture, contract.intensity(picture, "windowed"), placement)
    predictor = SamPredictor(sam)
    predictor.set_image(picture)
    embedded = network.prepare(image[None])
    torch.testing.assert_close(embedded.tensors["embedding"], predictor.features, atol=1e-5, rtol=0)
    box, point = np.array([[3.0, 4.0, 30.0, 25.0]]), np.array([[[20.0, 10.0], [5.0, 30.0]]])
    square_box = torch.from_numpy(predictor.transform.apply_boxes(box, picture.shape[:2])).float()
    square_point = torch.from_numpy(predictor.transform.apply_coords(point, picture.shape[:2])).float()
    labels, mask = torch.tensor([[1, 0]]), some_masks(1, grid)
    for given in ({"boxes": square_box}, {"points": square_point}, {"boxes": square_box, "masks": mask}):
        theirs = {"point_coords": given.get("points"), "mask_input": given.get("masks"), "boxes": given.get("boxes")}
        theirs["point_labels"] = labels if "points" in given else None
        _, iou, logits = predictor.predict_torch(**theirs, multimask_output=True)
        answer = network.predict(embedded, PromptBatch(**given, point_labels=theirs["point_labels"]), multimask=True)
        torch.testing.assert_close(answer.logits, logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(answer.iou, iou, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_picture_gives_the_numbers_of_segment_anythings_predictor(ours, upstream):
    check_against_predictor(ours, upstream, some_picture(40, 50))


@pytest.mark.parametrize("shape", [(40, 50), (50, 37), (90, 64)])
def test_a_box_of_the_picture_gives_the_logits_and_mask_of_segment_anythings_predictor(ours, upstream, shape):
    """Through the product's own way: the box in pixels of the slice, SlicePredictor, the mask of the slice."""
    picture, box = some_picture(*shape), np.array([3.0, 4.0, 30.0, 25.0])
    theirs = SamPredictor(upstream)
    theirs.set_image(picture)
    masks, iou, logits = theirs.predict(box=box, multimask_output=False)
    contract = contract_of_sam(SIZE)
    mine = SlicePredictor(ours, contract, store=PreparedCache())
    answer = mine.predict(SliceView(picture, contract.intensity(picture, "windowed")), SlicePrompt(box=box))
    np.testing.assert_allclose(answer.logits.numpy(), logits[0], atol=1e-5)
    assert answer.iou == pytest.approx(float(iou[0]), abs=1e-5)
    assert np.mean(answer.mask != masks[0]) < 0.001  # a pixel whose logit is 0 to 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_vit_b_at_full_size_gives_the_numbers_of_segment_anythings_predictor(monkeypatch):
    """All its widths at 1024 px; two of the twelve blocks, a windowed and a global one, are enough."""
    monkeypatch.setitem(VIT_VARIANTS, "vit_b", (768, 2, 12, (1,)))
    network = build_network("sam_vit_b", random=True)
    sam = sam_model_registry["vit_b"]()
    sam.image_encoder.blocks = torch.nn.ModuleList([sam.image_encoder.blocks[0], sam.image_encoder.blocks[2]])
    sam.load_state_dict(network.state_dict())
    check_against_predictor(network, sam, some_picture(300, 400))


def test_everything_mode_finds_what_segment_anything_finds(ours, upstream):
    picture = some_picture(40, 50)
    options = {"points_per_side": 4, "pred_iou_thresh": -9.0, "stability_score_thresh": 0.0}
    found, expected = (
        SamAutomaticMaskGenerator(sam, **options).generate(picture)
        for sam in (as_segment_anything(ours, contract_of_sam(SIZE)), upstream)
    )
    assert len(found) == len(expected) > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["bbox"] == theirs["bbox"]
        assert mine["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-5)
        assert (mine["segmentation"] == theirs["segmentation"]).all()


def test_everything_mode_is_refused_where_its_preprocessing_would_be_wrong(ours):
    with pytest.raises(CheckpointError, match="contract"):
        as_segment_anything(ours, load_family("medsam").contract)
    drawing = sam_tiny_vit(image_size=SIZE, grid=GRID, raster_prompts=True)
    with pytest.raises(CheckpointError, match="draw the prompts"):
        as_segment_anything(drawing, contract_of_sam(SIZE))


@torch.no_grad()
def test_objects_of_several_images_answer_as_if_asked_alone(ours, embeddings):
    points, labels = some_points(3)
    index = torch.tensor([2, 0, 2])
    together = ours.predict(prepared(embeddings), PromptBatch(points, labels, image_index=index))
    for i, image in enumerate(index):
        alone = ours.predict(prepared(embeddings[image : image + 1]), PromptBatch(points[i : i + 1], labels[i : i + 1]))
        torch.testing.assert_close(together.logits[i], alone.logits[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_missing_box_is_two_padding_tokens(ours, embeddings):
    points, labels = some_points()
    boxes = torch.stack([BOXES[0], torch.full((4,), NAN)])
    mixed = ours.predict_all(first(embeddings), PromptBatch(points, labels, boxes))
    padded_points = torch.cat([points, torch.zeros(2, 1, 2)], dim=1)  # with SAM's own padding token that makes two
    labels = torch.cat([labels, -torch.ones(2, 1)], dim=1)
    padded = ours.predict_all(first(embeddings), PromptBatch(padded_points, labels))
    torch.testing.assert_close(mixed.logits[1], padded.logits[1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_missing_mask_is_the_no_mask_embedding(ours, embeddings):
    masks = some_masks()
    masks[1] = NAN
    mixed = ours.predict_all(first(embeddings), PromptBatch(boxes=BOXES, masks=masks))
    without = ours.predict_all(first(embeddings), PromptBatch(boxes=BOXES))
    torch.testing.assert_close(mixed.logits[1], without.logits[1], atol=1e-5, rtol=0)
    assert not torch.allclose(mixed.logits[0], without.logits[0])


def test_no_prompt_at_all_gives_one_object(ours, embeddings):
    assert ours.predict(first(embeddings), PromptBatch()).logits.shape == (1, 1, 4 * GRID, 4 * GRID)


def test_missing_prompts_leave_all_gradients_finite(ours, embeddings):
    masks = some_masks()
    masks[0] = NAN
    boxes = torch.stack([torch.full((4,), NAN), BOXES[1]])
    ours.zero_grad()
    ours.predict_all(first(embeddings), PromptBatch(*some_points(), boxes, masks)).logits.sum().backward()
    gradients = [p.grad for p in (*ours.prompt_encoder.parameters(), *ours.mask_decoder.parameters())]
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_autocast_keeps_positions_in_float32(ours):
    coords, codes = torch.tensor([[[33.0, 41.0]]]), torch.ones(1, 1)
    exact = ours.prompt_encoder.embed_tokens(coords, codes)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ours.prompt_encoder.embed_tokens(coords, codes), exact)
        assert ours(torch.zeros(1, 3, SIZE, SIZE)).isfinite().all()


def test_forward_answers_one_mask_of_the_image_size(ours):
    assert ours(torch.zeros(2, 3, SIZE, SIZE)).shape == (2, 1, SIZE, SIZE)


def mixtures() -> dict[str, PromptBatch]:
    """Batches of two objects that differ in what they are asked with."""
    points, labels = some_points()
    fewer = labels.clone()
    fewer[1, 1:] = -1
    boxes, masks = BOXES.clone(), some_masks()
    boxes[1], masks[0] = NAN, NAN
    return {
        "a box for one": PromptBatch(points, labels, boxes),
        "a mask for one": PromptBatch(boxes=BOXES, masks=masks),
        "fewer points for one": PromptBatch(points, fewer),
    }


@pytest.mark.parametrize("what", mixtures())
@torch.no_grad()
def test_objects_that_would_change_each_others_answers_do_not_share_a_batch(ours, embeddings, what):
    prompts = mixtures()[what]
    with pytest.raises(PromptError, match="ask those that differ in batches of their own"):
        ours.predict(first(embeddings), prompts)
    trained = copy.deepcopy(ours).train().predict(first(embeddings), prompts, multimask=True)
    assert torch.equal(trained.logits, ours.predict_all(first(embeddings), prompts).logits[:, 1:])  # as SAM trains


@pytest.mark.parametrize("what", mixtures())
@torch.no_grad()
def test_a_network_that_draws_its_prompts_mixes_them_without_a_difference(what):
    unet = prompted_unet(image_size=SIZE, widths=(8, 16, 16), depths=(1, 1, 1)).eval()
    image, prompts = unet.prepare(torch.randn(1, 3, SIZE, SIZE)), mixtures()[what]
    if prompts.masks is not None:
        prompts.masks = interpolate(prompts.masks, SIZE)
    together = unet.predict(image, prompts, multimask=False)
    with pytest.raises(PromptError, match="batches of their own"):
        unet.predict(image, prompts)  # whether one of them is ambiguous cannot be said of all
    for row in range(2):
        alone = PromptBatch(
            points=None if prompts.points is None else prompts.points[[row]][:, prompts.point_labels[row] >= 0],
            point_labels=None
            if prompts.points is None
            else prompts.point_labels[[row]][:, prompts.point_labels[row] >= 0],
            boxes=None if prompts.boxes is None or prompts.boxes[row].isnan().any() else prompts.boxes[[row]],
            masks=None if prompts.masks is None or prompts.masks[row].isnan().any() else prompts.masks[[row]],
        )
        answer = unet.predict(image, alone, multimask=False)
        torch.testing.assert_close(together.logits[row], answer.logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("candidates", "expected"),
    [("ambiguous", {"point": 3, "box": 1, "points": 1}), ("always", dict.fromkeys(KINDS, 3))],
)
@torch.no_grad()
def test_a_prompt_is_answered_with_the_masks_that_were_trained_for_it(ours, embeddings, candidates, expected):
    network = PromptableSam(ours.image_encoder, ours.prompt_encoder, ours.mask_decoder, candidates=candidates).eval()
    answers = {kind: network.predict(first(embeddings), prompts).logits.shape[1] for kind, prompts in KINDS.items()}
    assert answers == expected
    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    whole = PromptBatch(boxes=torch.tensor([[0.0, 0.0, SIZE - 1.0, SIZE - 1.0]]))
    logits, _ = network.predict(network.prepare(image), whole).best()
    expected = interpolate(logits, (SIZE, SIZE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(image), expected)  # what MONAI's tools export
    traced = torch.jit.trace(network, image.expand(2, -1, -1, -1), check_trace=False)
    torch.testing.assert_close(traced(image.expand(3, -1, -1, -1)), expected.expand(3, -1, -1, -1), atol=1e-5, rtol=0)


def test_mask_prompts_become_probabilities_where_the_network_was_trained_with_them(ours):
    plain = ours.prompt_encoder
    other = copy.deepcopy(plain)
    other.mask_prompt = "probability"
    masks = some_masks()
    torch.testing.assert_close(other.embed_masks(masks, 2), plain.embed_masks(masks.sigmoid(), 2))
    masks[1] = NAN
    torch.testing.assert_close(other.embed_masks(masks, 2)[1], plain.embed_masks(None, 2)[1])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (PromptBatch(points=torch.zeros(1, 2, 2)), "come together"),
        (PromptBatch(boxes=torch.zeros(2, 3)), r"boxes must have shape \(2, 4\)"),
        (PromptBatch(torch.zeros(1, 2, 2), torch.zeros(1, 3)), "point_labels must have shape"),
        (PromptBatch(boxes=BOXES, masks=torch.zeros(2, 1, 8, 8)), "masks must have shape"),
        (PromptBatch(boxes=BOXES), "image_index"),
    ],
)
def test_wrong_prompts_are_refused_by_name(ours, embeddings, prompts, message):
    with pytest.raises(ValueError, match=message):
        ours.predict(prepared(embeddings), prompts)


def test_an_image_of_another_size_is_refused(ours):
    with pytest.raises(ValueError, match="prepare them with the family's contract"):
        ours.prepare(torch.zeros(1, 3, 48, 64))


def test_all_masks_are_the_single_one_and_the_candidates(ours, embeddings):
    prompts = PromptBatch(boxes=torch.tensor([[10.0, 12.0, 60.0, 70.0]]))
    with torch.no_grad():
        every = ours.predict_all(first(embeddings), prompts)
        single, candidates = (ours.predict(first(embeddings), prompts, multimask=several) for several in (False, True))
    assert torch.equal(every.logits, torch.cat([single.logits, candidates.logits], dim=1))
    assert torch.equal(every.iou, torch.cat([single.iou, candidates.iou], dim=1))


def test_an_image_is_described_by_its_mean_embedding(ours, embeddings):
    described = Prepared({"embedding": embeddings}).averaged()
    torch.testing.assert_close(described, embeddings.mean(dim=(2, 3)))
    assert described.shape == (len(embeddings), 256)
