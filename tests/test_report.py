"""The report: one page that needs nothing else, tables that agree with the records, and pictures."""

from __future__ import annotations

import base64
import csv
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from bundle.evaluation import figures
from bundle.evaluation.figures import Overlay, Scene
from bundle.evaluation.records import RunFolder
from bundle.evaluation.report import extreme_cases, extreme_records, write_report
from bundle.evaluation.tables import comparison_rows, speed_rows, summary_rows
from bundle.interactive.slice_model import SlicePrompt


def records(gain=0.0, steps=1, patients=6):
    """Two organs of six patients; each step adds 0.1 to the Dice."""
    rows = []
    for n in range(patients):
        for organ, base in (("liver", 0.8), ("pancreas <b>", 0.5)):
            for step in range(steps):
                dsc = min(1.0, base + gain + 0.01 * n + 0.1 * step)
                rows.append(
                    {
                        "key": f"k{n}",
                        "case": f"p{n}",
                        "organ": organ,
                        "protocol": "clicks" if steps > 1 else "box",
                        "step": step,
                        "dsc": dsc,
                        "nsd": dsc - 0.1,
                        "hd95": None if n == 0 else 3.0,
                        "iou": dsc / (2 - dsc),
                        "predicted_iou": 0.7,
                        "encode_seconds": 0.5,
                        "seconds": 0.02,
                        "prompt": {"points": [[10 + n, 12]], "point_labels": [1], "box": [5, 6, 30, 28]},
                    }
                )
    return rows


@dataclass
class FakeSettings:
    seed: int = 0


class Page(HTMLParser):
    """Collects what the page refers to, and its table cells."""

    def __init__(self, text):
        super().__init__()
        self.references, self.cells, self._in_cell = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.references += [value for name, value in attrs if name in ("src", "href")]
        self._in_cell = tag == "td"

    def handle_data(self, data):
        if self._in_cell:
            self.cells.append(data.strip())


def test_the_page_opens_offline_and_holds_every_table(tmp_path):
    path = write_report(tmp_path, {"base": records(), "tuned": records(0.05)}, title="Test", description=["seed 0"])
    page = Page(path.read_text())
    assert page.references and all(reference.startswith("data:image/") for reference in page.references)
    assert not re.search(r"https?://(?!www\.w3\.org)", re.sub(r"base64,[^\"]+", "", path.read_text()))
    assert "base → tuned" in page.cells and "macro mean" in page.cells


def test_names_from_data_are_escaped(tmp_path):
    text = write_report(tmp_path, {"<script>": records()}, title="<i>").read_text()
    assert "<script>" not in text and "pancreas <b>" not in text and "<i>" not in text


def test_tables_are_written_as_csv_and_json(tmp_path):
    write_report(tmp_path, {"base": records(), "tuned": records(0.05)}, title="Test")
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    macro = next(r for r in rows if (r["run"], r["organ"], r["score"]) == ("tuned", "macro mean", "dsc"))
    assert float(macro["mean"]) == pytest.approx(0.65 + 0.05 + 0.025)
    content = json.loads((tmp_path / "summary.json").read_text())
    difference = next(r for r in content["comparison"] if r["organ"] == "liver" and r["score"] == "dsc")
    assert difference["difference"] == pytest.approx(0.05)
    assert (tmp_path / "comparison.csv").is_file()


def test_every_patient_has_a_line_with_the_means_of_its_slices(tmp_path):
    """Two steps of one slice, of which the last counts, and a second slice of the first patient."""
    rows = records(steps=2)
    rows.append({**rows[1], "key": "another slice", "dsc": 0.5})
    write_report(tmp_path, {"base": rows, "tuned": rows}, title="Test")
    with (tmp_path / "cases.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["run", "protocol", "organ", "case", "dsc", "nsd", "iou", "hd95"]
    assert [row["case"] for row in table] == [f"p{n}" for n in range(6)] * 2 * 2
    first, other = table[:2]
    assert (first["run"], first["protocol"], first["organ"]) == ("base", "clicks", "liver")
    assert float(first["dsc"]) == pytest.approx((0.9 + 0.5) / 2) and first["hd95"] == ""
    assert float(other["dsc"]) == pytest.approx(0.91) and float(other["hd95"]) == 3.0


def test_one_run_has_nothing_to_compare_with(tmp_path):
    write_report(tmp_path, {"base": records()}, title="Test")
    assert not (tmp_path / "comparison.csv").exists() and comparison_rows({"base": records()}) == []


def test_a_score_that_nobody_has_is_left_out():
    rows = [{**record, "hd95": None} for record in records()]
    assert {row["score"] for row in summary_rows({"base": rows})} == {"dsc", "nsd", "iou"}


def test_speed_counts_the_encoder_once_for_each_image():
    (row,) = speed_rows({"base": records(steps=3)})
    assert (row["images"], row["prompts"], row["encode_seconds"], row["prompt_seconds"]) == (6, 36, 0.5, 0.02)


def test_corrections_and_calibration_are_drawn(tmp_path):
    text = write_report(tmp_path, {"base": records(steps=3)}, title="Test").read_text()
    assert "<h2>Corrections</h2>" in text and "<h2>Predicted IoU</h2>" in text


def test_number_of_clicks_and_the_challenges_four_stand_in_page_tables_and_summary(tmp_path):
    page = Page(write_report(tmp_path, {"base": records(steps=6)}, title="Test").read_text())
    content, tables = json.loads((tmp_path / "summary.json").read_text()), (tmp_path / "tables.md").read_text()
    noc = next(r for r in content["clicks"] if (r["organ"], r["score"], r["target"]) == ("liver", "iou", 0.90))
    assert f"{noc['noc']:.2f}" in page.cells and "NoC@90" in tables and noc["limit"] == 6
    macro = [row for row in content["challenge"] if row["organ"] == "macro mean"]
    assert [row["score"] for row in macro] == ["dsc_auc", "nsd_auc", "dsc_final", "nsd_final"]
    assert any(cell.startswith(f"{macro[0]['mean']:.3f} [") for cell in page.cells) and "DSC AUC" in tables
    with (tmp_path / "challenge.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(content["challenge"]) == 3 * 4


def test_without_five_clicks_the_challenge_is_not_mentioned(tmp_path):
    assert "Five clicks" not in write_report(tmp_path, {"base": records(steps=3)}, title="Test").read_text()
    assert not (tmp_path / "challenge.csv").exists()


def test_a_model_that_expects_nothing_has_no_calibration(tmp_path):
    silent = [{**record, "predicted_iou": None} for record in records()]
    assert "Predicted IoU" not in write_report(tmp_path, {"base": silent}, title="Test").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["calibration"] == []


def test_calibration_of_every_run_stands_in_page_summary_and_tables(tmp_path):
    page = write_report(tmp_path, {"base": records(), "tuned": records(0.05)}, title="Test")
    found = json.loads((tmp_path / "summary.json").read_text())["calibration"]
    assert [(row["run"], row["protocol"], row["answers"]) for row in found] == [
        ("base", "box", 12),
        ("tuned", "box", 12),
    ]
    assert f"{found[0]['mae']:.3f}" in Page(page.read_text()).cells
    assert "rank correlation" in (tmp_path / "tables.md").read_text()


def disc(centre=(30, 30), radius=12):
    rows, columns = np.ogrid[:64, :64]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def test_the_best_the_median_and_the_worst_case_are_shown(tmp_path):
    run = RunFolder(tmp_path, FakeSettings())
    chosen = [record for record in records() if record["organ"] == "liver"]
    for record in chosen:
        run.write_mask(record["key"], "liver", "box", disc())

    class Shown:
        def scene(self, label, place):
            return Scene(np.zeros((64, 64), np.uint8), disc())

    cases = {f"k{n}": Shown for n in range(6)}
    ((heading, shown),) = extreme_cases(chosen, tmp_path, cases, organs={1: "liver"}).items()
    assert heading == "liver, box"
    assert [overlay.title.split("\n")[1] for overlay in shown] == ["k5", "k3", "k0"]
    assert (shown[0].prediction == disc()).all()


def test_few_objects_are_not_shown_twice():
    liver = [record for record in records() if record["organ"] == "liver"]
    ranks = [[*extreme_records(liver[:count])["liver, box"]] for count in (1, 2, 3)]
    assert ranks == [["only one"], ["best", "worst"], ["best", "median", "worst"]]


def test_an_organ_that_only_one_automatic_network_invents_is_compared_as_well():
    """Where the other network claimed nothing either, both are empty, which is 1."""
    rows = [{**record, "voxels_truth": 9} for record in records() if record["organ"] == "liver"]
    invented = {**rows[0], "key": "empty", "dsc": 0.0, "nsd": 0.0, "voxels_truth": 0}
    (liver, _) = (row for row in comparison_rows({"a": rows, "b": [*rows, invented]}) if row["score"] == "dsc")
    assert liver["difference"] == pytest.approx((rows[0]["dsc"] / 2 - (rows[0]["dsc"] + 1) / 2) / 6)


def test_an_overlay_shows_truth_prediction_and_prompt_in_their_colours():
    prompt = SlicePrompt(np.array([[30.0, 30], [50, 50]]), np.array([1, 0]), np.array([18.0, 18, 42, 42]))
    overlay = Overlay("case", np.full((64, 64), 60, np.uint8), disc(), disc((33, 30)), prompt)
    address = figures.overlays([overlay])
    image = np.asarray(Image.open(BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))
    pixels = image[: int(0.84 * len(image))].reshape(-1, 3)  # above the legend
    for colour in (figures.TRUTH, figures.PREDICTION, figures.PROMPT, figures.NEGATIVE):
        wanted = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=1) < 8).sum() > 10, colour


def test_an_empty_answer_and_an_object_at_the_edge_can_be_drawn():
    truth = disc((2, 62))
    overlay = Overlay("case", np.zeros((64, 64, 3), np.uint8), truth, np.zeros_like(truth), SlicePrompt())
    assert figures.overlays([overlay]).startswith("data:image/png;base64,")


def test_rows_of_overlays_are_the_report_pictures_below_each_other():
    overlay = Overlay("case", np.full((64, 64), 60, np.uint8), disc(), disc((33, 30)), SlicePrompt())
    rows = [[overlay] * 3, [overlay]]
    page = np.asarray(Image.open(BytesIO(figures.overlay_rows(rows))))
    addresses = [figures.overlays(row) for row in rows]
    strips = [np.asarray(Image.open(BytesIO(base64.b64decode(a.split(",")[1]))).convert("RGB")) for a in addresses]
    top, below = page[: len(strips[0])], page[len(strips[0]) :]
    np.testing.assert_array_equal(top, strips[0])
    np.testing.assert_array_equal(below[:, : strips[1].shape[1]], strips[1])
    assert (below[:, strips[1].shape[1] :] == 255).all()
