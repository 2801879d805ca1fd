"""Evaluations: records, masks, going on after an interruption, and replay."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bundle.data.labelled_slices import LabelledSlice
from bundle.evaluation.baselines import ellipse
from bundle.evaluation.evaluator import (
    EvaluationSettings,
    evaluate_automatic,
    evaluate_slices,
    open_with_baseline,
    open_with_network,
    pictures_of,
)
from bundle.evaluation.protocols import CorrectionProtocol, ProtocolError, protocol_named
from bundle.evaluation.records import EvaluationError, last_steps, read_mask, read_records
from bundle.interactive.slice_model import SliceMask
from bundle.transforms.contract import View

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


def evaluate(folder, open_slice=None, items=None, protocols=BOX, organs=ORGANS, replay=None, **options):
    return evaluate_slices(
        open_slice or open_with_baseline(ellipse),
        slices() if items is None else items,
        organs=organs,
        protocols=protocols,
        folder=folder,
        settings=EvaluationSettings(tuple(protocols), **options),
        replay=replay,
    )


def test_every_object_of_every_slice_gets_a_record_and_a_mask(tmp_path):
    records = evaluate(tmp_path)
    assert [(record["key"], record["organ"]) for record in records[:3]] == [
        ("p-2-0000", "liver"),
        ("p-2-0000", "pancreas"),
        ("p-2-0000#2", "liver"),
    ]
    assert all(record["dsc"] > 0.9 and record["predicted_iou"] is None for record in records)
    assert read_mask(tmp_path, records[0]).sum() == records[0]["voxels_prediction"]
    assert read_records(tmp_path) == records
    assert len((tmp_path / "records.csv").read_text().splitlines()) == 7
    assert set(pictures_of(slices(), ORGANS)) == {f"{record['key']} {record['organ']}" for record in records}


def test_an_organ_that_is_not_asked_for_is_left_out(tmp_path):
    settings = EvaluationSettings(("box",))
    records = evaluate_slices(
        open_with_baseline(ellipse),
        slices(1),
        organs={2: "pancreas"},
        protocols=BOX,
        folder=tmp_path,
        settings=settings,
    )
    assert {record["organ"] for record in records} == {"pancreas"}


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    opened = []

    def counting(item):
        if len(opened) == 2:
            raise KeyboardInterrupt
        opened.append(item)
        return open_with_baseline(ellipse)(item)

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, counting)
    with (tmp_path / "progress-0.jsonl").open("a") as file:
        file.write('{"key": "p-2-0000#3", "rec')  # what a kill in the middle of a line leaves
    rest = []
    records = evaluate(tmp_path, lambda item: rest.append(item) or open_with_baseline(ellipse)(item))
    assert len(rest) == 1
    assert [r["dsc"] for r in records] == [r["dsc"] for r in evaluate(tmp_path / "at once")]


def test_a_folder_of_a_run_with_other_settings_is_not_continued(tmp_path):
    evaluate(tmp_path)
    with pytest.raises(EvaluationError, match="another folder"):
        evaluate(tmp_path, seed=1)


def test_distances_are_in_pixels_of_the_reference_whatever_the_size_of_the_slice(tmp_path):
    def shifted(item):
        return lambda prompt: SliceMask(np.roll(item.labels == 1, 2, axis=1), logits=None, iou=0.5)

    small = evaluate(tmp_path / "small", shifted, slices(1))[0]
    large = evaluate(tmp_path / "large", shifted, slices(1), pixels_of=64)[0]
    assert small["hd95"] == pytest.approx(4 * large["hd95"]) and small["nsd"] < large["nsd"] == 1
    assert small["predicted_iou"] == 0.5


def test_distances_can_be_in_millimetres():
    item = slices(1)[0]
    assert EvaluationSettings(("box",), pixels_of=None).spacing(item) == (1, 1)


def test_a_second_model_is_shown_the_prompts_of_the_first(tmp_path):
    def half(prompt_half):
        def open_slice(item):
            def predict(prompt):
                x, y = prompt.points[0].astype(int)
                mask = np.zeros(item.labels.shape, bool)
                mask[max(0, y - prompt_half) : y + prompt_half, max(0, x - prompt_half) : x + prompt_half] = True
                return SliceMask(mask, logits=None, iou=0.5)

            return predict

        return open_slice

    clicks = {"clicks": CorrectionProtocol("point", clicks=3, rule="random")}
    first = evaluate(tmp_path / "a", half(4), protocols=clicks)
    second = evaluate(tmp_path / "b", half(8), protocols=clicks, replay=first)
    assert [record["prompt"] for record in first] == [record["prompt"] for record in second]
    assert [record["dsc"] for record in first] != [record["dsc"] for record in second]
    with pytest.raises(EvaluationError, match="same list"):
        evaluate(tmp_path / "c", half(8), protocols=clicks, replay=first[:1])


def test_only_the_last_step_of_each_object_is_kept():
    rows = [{"key": "a", "organ": "liver", "protocol": "p", "step": step} for step in range(3)]
    assert [row["step"] for row in last_steps(rows)] == [2]


def test_a_baseline_is_not_asked_with_points(tmp_path):
    with pytest.raises(ProtocolError, match="box protocol"):
        evaluate(tmp_path, protocols={"points_1": protocol_named("points_1")})


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="evaluate into it first"):
        read_records(tmp_path)


class Thresholds:
    """A predictor that takes what is as bright as the middle of its prompt."""

    contract = SimpleNamespace(intensity=lambda array, modality: (View(0, 255),), carried=("box", "mask"))

    def predict(self, view, prompt):
        picture = np.round(view.picture)
        x, y = prompt.points[0] if len(prompt.points) else (prompt.box[:2] + prompt.box[2:]) / 2
        mask = np.abs(picture - picture[int(y), int(x)]) < 30
        return SliceMask(mask, logits=None, iou=0.9, encoded=1, encode_seconds=1e-6)


def test_a_network_is_timed_and_scored(tmp_path):
    records = evaluate(tmp_path, open_with_network(Thresholds()))
    assert all(record["dsc"] == 1 and record["encode_seconds"] > 0 for record in records)


def test_an_automatic_model_is_scored_on_every_organ_that_was_looked_for(tmp_path):
    (item,) = slices(1)
    found = replace(item, labels=np.where(item.labels == 2, 0, item.labels), ids=(1,), annotated=(1, 2))

    def invents_a_pancreas(item):
        return slices(1)[0].labels

    records = evaluate_automatic(
        invents_a_pancreas, [found], organs=ORGANS, folder=tmp_path, settings=EvaluationSettings(())
    )
    assert [(record["organ"], record["dsc"]) for record in records] == [("liver", 1), ("pancreas", 0)]
    assert read_mask(tmp_path, records[1]).sum() == records[1]["voxels_prediction"]
