"""The loop of evaluations: records, masks, going on after an interruption, and replay; of slices and volumes."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract
from test_semantic import ORGAN, BrightStacks, ct, model

from bundle.data.labelled_slices import LabelledSlice
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.errors import RunStateError
from bundle.evaluation.baselines import ellipse
from bundle.evaluation.cases import VolumeCase, slice_cases
from bundle.evaluation.interaction import Prediction
from bundle.evaluation.models import open_baseline, open_slices, open_volumes
from bundle.evaluation.protocols import Box, ClickProtocol, Points, ProtocolError, protocol_named
from bundle.evaluation.records import EvaluationError, StoredPrompts, last_steps, read_mask, read_records
from bundle.evaluation.report import extreme_cases
from bundle.evaluation.runner import AUTOMATIC, EvaluationSettings, NotPrompting, Prompting, evaluate
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SliceMask, SlicePredictor
from bundle.networks.interface import ModelSpec
from bundle.transforms.contract import View
from bundle.transforms.frames import SliceFrame

ORGANS = {1: "liver", 2: "pancreas"}
BOX = {"box": protocol_named("box")}


def slices(count=3):
    """Pictures of two ellipses, all with one key, as pictures of one patient have."""
    rows, columns = np.ogrid[:64, :64]
    found = []
    for n in range(count):
        labels = np.zeros((64, 64), np.uint8)
        labels[((rows - 24) / (12 + n)) ** 2 + ((columns - 20) / 9) ** 2 <= 1] = 1
        labels[((rows - 50) / 6) ** 2 + ((columns - 44) / 8) ** 2 <= 1] = 2
        picture = (80 + 60 * labels).astype(np.uint8)
        found.append(LabelledSlice(picture, labels, (1, 2), (View(0, 255),), "windowed", (1, 1), "p", "p-2-0000"))
    return found


def play(folder, open_case=None, items=None, protocols=BOX, organs=ORGANS, replay=None, **options):
    settings = EvaluationSettings(tuple(protocols), **options)
    stored = None if replay is None else StoredPrompts(replay)
    user = Prompting(open_case or open_baseline(ellipse), organs, protocols, settings, stored)
    cases = slice_cases(slices() if items is None else items, pixels_of=settings.pixels_of)
    return evaluate(user, cases, folder=folder, settings=settings)


def test_every_object_of_every_slice_gets_a_record_and_a_mask(tmp_path):
    records = play(tmp_path)
    assert [(record["key"], record["organ"]) for record in records[:3]] == [
        ("p-2-0000", "liver"),
        ("p-2-0000", "pancreas"),
        ("p-2-0000#2", "liver"),
    ]
    assert all(record["dsc"] > 0.9 and record["predicted_iou"] is None for record in records)
    assert read_mask(tmp_path, records[0]).sum() == records[0]["voxels_prediction"]
    assert read_records(tmp_path) == records
    assert len((tmp_path / "records.csv").read_text().splitlines()) == 7


def test_an_organ_that_is_not_asked_for_is_left_out(tmp_path):
    assert {record["organ"] for record in play(tmp_path, items=slices(1), organs={2: "pancreas"})} == {"pancreas"}


def test_an_object_below_the_least_size_of_its_slice_is_not_asked_for(tmp_path):
    (item,) = slices(1)
    assert {record["organ"] for record in play(tmp_path, items=[replace(item, ids=(2,))])} == {"pancreas"}


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    opened = []

    def counting(case):
        if len(opened) == 2:
            raise KeyboardInterrupt
        opened.append(case)
        return open_baseline(ellipse)(case)

    with pytest.raises(KeyboardInterrupt):
        play(tmp_path, counting)
    assert len(list((tmp_path / "records").glob("*.json"))) == 2
    rest = []
    records = play(tmp_path, lambda case: rest.append(case) or open_baseline(ellipse)(case))
    assert len(rest) == 1
    assert [r["dsc"] for r in records] == [r["dsc"] for r in play(tmp_path / "at once")]


def test_two_workers_share_the_images_and_both_get_the_records_of_all(tmp_path):
    opened, other = [], []

    def open_case(case):
        opened.append(case.item)
        return open_baseline(ellipse)(case)

    def first_opens(case):
        if not other:  # the second worker comes and does all that is free, while this one holds its first image
            pool = ThreadPoolExecutor(1)
            other.append(pool.submit(play, tmp_path / "both", open_case))
            while not other[0].done() and len(list((tmp_path / "both" / "records").glob("*.json"))) < 2:
                time.sleep(0.01)
        return open_case(case)

    records = play(tmp_path / "both", first_opens)
    assert records == other[0].result() and len(opened) == 3
    assert [r["dsc"] for r in records] == [r["dsc"] for r in play(tmp_path / "alone")]


def test_a_folder_of_a_run_with_other_settings_is_not_continued(tmp_path):
    play(tmp_path)
    with pytest.raises(RunStateError, match="holds results with seed 0, now 1; choose another folder"):
        play(tmp_path, seed=1)


def test_distances_are_in_pixels_of_the_reference_whatever_the_size_of_the_slice(tmp_path):
    def shifted(case):
        return lambda prompt, previous: Prediction(np.roll(case.labels == 1, 2, axis=1), iou=0.5)

    small = play(tmp_path / "small", shifted, slices(1))[0]
    large = play(tmp_path / "large", shifted, slices(1), pixels_of=64)[0]
    assert small["hd95"] == pytest.approx(4 * large["hd95"]) and small["nsd"] < large["nsd"] == 1
    assert small["predicted_iou"] == 0.5


def test_a_second_model_is_shown_the_prompts_of_the_first(tmp_path):
    def half(side):
        def open_case(case):
            def predict(prompt, previous):
                x, y = prompt.points[0].astype(int)
                mask = np.zeros(case.labels.shape, bool)
                mask[max(0, y - side) : y + side, max(0, x - side) : x + side] = True
                return Prediction(mask)

            return predict

        return open_case

    clicks = {"clicks": ClickProtocol(Points(1), clicks=3, rule="random")}
    first = play(tmp_path / "a", half(4), protocols=clicks)
    second = play(tmp_path / "b", half(8), protocols=clicks, replay=first)
    assert [record["prompt"] for record in first] == [record["prompt"] for record in second]
    assert [record["dsc"] for record in first] != [record["dsc"] for record in second]
    with pytest.raises(EvaluationError, match="same list"):
        play(tmp_path / "c", half(8), protocols=clicks, replay=first[:1])


def test_only_the_last_step_of_each_object_is_kept():
    rows = [{"key": "a", "organ": "liver", "protocol": "p", "step": step} for step in range(3)]
    assert [row["step"] for row in last_steps(rows)] == [2]


def test_a_baseline_is_not_asked_with_points(tmp_path):
    with pytest.raises(ProtocolError, match="box protocol"):
        play(tmp_path, protocols={"points_1": protocol_named("points_1")})


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="evaluate into it first"):
        read_records(tmp_path)


class Thresholds:
    """A predictor that takes what is as bright as the middle of its prompt."""

    contract = SimpleNamespace(intensity=lambda array, modality: (View(0, 255),))
    network = SimpleNamespace(spec=ModelSpec((3, 64, 64)))

    def predict(self, view, prompt):
        picture = np.round(view.picture)
        x, y = prompt.points[0] if len(prompt.points) else (prompt.box[:2] + prompt.box[2:]) / 2
        mask = np.abs(picture - picture[int(y), int(x)]) < 30
        return SliceMask(mask, logits=None, iou=0.9, encoded=1, encode_seconds=1e-6)


def test_a_network_is_timed_and_scored(tmp_path):
    records = play(tmp_path, open_slices(Thresholds()))
    assert all(record["dsc"] == 1 and record["encode_seconds"] > 0 for record in records)


def test_the_mask_prompt_of_a_slice_is_its_own_former_answer(tmp_path):
    given = []

    class Remembers(Thresholds):
        def predict(self, view, prompt):
            given.append(prompt.previous)
            mask = np.zeros(view.picture.shape, bool)
            mask[0, len(given)] = True
            return SliceMask(mask, logits=None, iou=0.9)

    clicks = {"clicks": ClickProtocol(Box(), clicks=1)}
    play(tmp_path, open_slices(Remembers()), slices(1), clicks, organs={1: "liver"})
    first, second = given
    assert first is None and np.argwhere(second.mask).tolist() == [[0, 1]]


def test_a_model_without_prompts_is_scored_on_every_organ_that_was_looked_for(tmp_path):
    (item,) = slices(1)
    found = replace(item, labels=np.where(item.labels == 2, 0, item.labels), ids=(1,), annotated=(1, 2))
    settings = EvaluationSettings(())
    invents_a_pancreas = NotPrompting(lambda case: item.labels, ORGANS, settings)
    records = evaluate(invents_a_pancreas, slice_cases([found]), folder=tmp_path, settings=settings)
    assert [(record["organ"], record["dsc"]) for record in records] == [("liver", 1), ("pancreas", 0)]
    assert read_mask(tmp_path, records[1]).sum() == records[1]["voxels_prediction"]


# ---- volumes --------------------------------------------------------------------------------------------------------


def sessions(predictor=None):
    predictor = predictor or SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())
    return partial(InteractiveSession, predictor=predictor)


def volume(axis=2, truth=None, **about):
    image, inside = ct()
    labels = np.where(inside if truth is None else truth, ORGAN, 0).astype(np.uint8)
    return VolumeCase("p0", image, Volume(labels, image.affine), contract=bright_contract(), axis=axis, **about)


def play_volume(folder, protocols, *, axis=2, replay=None, key="a"):
    settings = EvaluationSettings(tuple(protocols), pixels_of=None, replayed=replay is not None)
    stored = None if replay is None else StoredPrompts(replay)
    user = Prompting(open_volumes(sessions(), axis=axis), {ORGAN: "liver"}, protocols, settings, stored)
    return evaluate(user, {key: partial(volume, axis)}, folder=folder, settings=settings)


def test_volumes_are_prompted_and_scored_in_millimetres(tmp_path):
    image, labels, names = make_phantom(shape=(40, 36, 20), spacing=(8.0, 8.0, 9.0), seed=0)
    organ, label = next(iter(names.items()))
    settings = EvaluationSettings(("slice_box", "box"), pixels_of=None)
    protocols = {name: protocol_named(name) for name in settings.protocols}
    user = Prompting(open_volumes(sessions(Thresholds())), {label: organ}, protocols, settings)
    case = VolumeCase("patient-0", image, labels, contract=Thresholds.contract)
    records = evaluate(user, {"phantom-0": lambda: case}, folder=tmp_path, settings=settings)
    assert [record["protocol"] for record in records] == ["slice_box", "box"]
    assert records[0]["voxels_truth"] == (labels.array == label).sum()
    assert json.loads((tmp_path / "settings.json").read_text())["protocols"] == ["slice_box", "box"]


def test_a_record_of_a_volume_has_the_estimate_the_times_and_the_slice_that_is_kept(tmp_path):
    (record,) = play_volume(tmp_path, {"box": protocol_named("box")})
    truth = ct()[1]
    assert record["predicted_iou"] == pytest.approx(0.9)
    assert record["encode_seconds"] > 0 and record["seconds"] > 0 and record["encoded"] > 0
    assert record["slice"] == volume().place(truth)["slice"]
    wanted = SliceFrame.along(truth.shape, ct()[0].affine, 2).extract(truth, record["slice"])
    assert np.count_nonzero(read_mask(tmp_path, record) != wanted) < 0.1 * wanted.sum()


@pytest.mark.parametrize("axis", [0, 2])
def test_an_overlay_shows_the_middle_of_the_object_with_truth_answer_and_prompt(tmp_path, axis):
    protocols = {name: protocol_named(name, axis=axis) for name in ("slice_box", "point")}
    records = play_volume(tmp_path, protocols, axis=axis)
    shown = extreme_cases(records, tmp_path, {"a": partial(volume, axis)}, organs={ORGAN: "liver"})
    for heading, (overlay,) in shown.items():
        assert overlay.picture[overlay.truth].min() == 255 and overlay.picture[~overlay.truth].max() == 0
        assert np.count_nonzero(overlay.prediction != overlay.truth) < 0.1 * overlay.truth.sum()
        rows, columns = np.nonzero(overlay.truth)
        if "box" in heading:
            assert overlay.prompt.box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert f"slice {records[0]['slice']}" in overlay.title
    spacing = {2: (1, 2), 0: (3, 2)}[axis]  # height and width of a pixel in mm
    assert overlay.aspect == pytest.approx(spacing[0] / spacing[1])


def test_a_second_model_is_shown_the_prompts_of_the_first_in_volumes_as_well(tmp_path):
    clicks = {"clicks": ClickProtocol(Points(1), clicks=2)}
    first = play_volume(tmp_path / "a", clicks)
    moved = [{**r, "prompt": {**r["prompt"], "points": [[20, 20, 3]], "point_labels": [1]}} for r in first[:1]]
    again = play_volume(tmp_path / "b", clicks, replay=moved)
    assert [record["prompt"] for record in again] == [record["prompt"] for record in moved]
    with pytest.raises(EvaluationError, match="same list"):
        play_volume(tmp_path / "c", clicks, key="other", replay=first)


def test_objects_of_a_volume_do_not_go_on_from_each_other(tmp_path):
    box = ClickProtocol(Box(), clicks=1)
    twice = play_volume(tmp_path / "twice", {"first": box, "second": box})
    once = play_volume(tmp_path / "once", {"second": box})
    assert [r["dsc"] for r in twice if r["protocol"] == "second"] == [r["dsc"] for r in once]


def test_a_model_without_prompts_is_scored_in_3d_on_what_was_looked_for(tmp_path):
    def run(name, **about):
        settings = EvaluationSettings((AUTOMATIC,), pixels_of=None)
        stacks = model(BrightStacks(), values=(ORGAN,))
        user = NotPrompting(lambda case: stacks.segment_volume(case.image), {ORGAN: "liver", 8: "spleen"}, settings)
        return evaluate(user, {"a": partial(volume, **about)}, folder=tmp_path / name, settings=settings)

    (record,) = run("found")
    place = volume().place(ct()[1])["slice"]
    assert (record["organ"], record["protocol"], record["slice"]) == ("liver", AUTOMATIC, place)
    assert record["nsd"] > 0.9 and record["voxels_truth"] == ct()[1].sum()
    empty = np.zeros(ct()[0].shape, bool)
    (invented,) = run("invented", truth=empty)
    assert (invented["organ"], invented["dsc"]) == ("liver", 0) and read_mask(tmp_path / "invented", invented).any()
    assert run("not asked", truth=empty, annotated=(8,)) == []
