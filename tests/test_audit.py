"""The audit of a data set: each rule finds what it is for, and nothing where all is well."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pytest

from bundle.data import audit_facts
from bundle.data.audit import RULES, WRONG, audit
from bundle.data.datasets import folders
from bundle.data.volume import Volume, read_volume, write_label, write_volume

NAMES = {"liver": 1, "spleen": 2}
AFFINE = np.diag([-2.0, -2.0, 5.0, 1.0])


def write(root, name, *, seed, change=lambda image, labels: None, affine=AFFINE, label_affine=None):
    """A patient with its own noise and a liver and a spleen of a few hundred voxels."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 400, (12, 10, 6)).astype(np.int16)
    labels = np.zeros(image.shape, np.uint8)
    labels[1:7, 1:9, 1:5], labels[8:11, 1:9, 1:5] = 1, 2
    change(image, labels)
    write_volume(Volume(image, affine), root / "images" / f"{name}.nii.gz")
    given = Volume(labels, affine if label_affine is None else label_affine)
    write_label(labels, given, root / "labels" / f"{name}.nii.gz")


@pytest.fixture
def root(tmp_path):
    """Ten patients with whom nothing is wrong."""
    for n in range(10):
        write(tmp_path / "set", f"case{n}", seed=n)
    return tmp_path / "set"


def check(root, output=None, **options):
    items = folders(root, names=options.pop("names", NAMES))
    items = [item | options.get("about", {}).get(item["patient"], {}) for item in items]
    options.pop("about", None)
    return audit(items, output or root.parent / "out", **{"min_voxels": 20, **options})


def found(result):
    return {(finding.rule, finding.items) for finding in result.findings}


def test_a_sound_data_set_has_no_findings(root):
    result = check(root)
    assert result.findings == () and sum(result.patients.values()) == 10
    content = json.loads((root.parent / "out" / "check.json").read_text())
    assert content["wrong"] == 0 and content["facts"]["case3"]["objects"] == {"liver": 192, "spleen": 96}


def dark(image, labels):
    image[:] = 7


def brighter(image, labels):
    image += 9000


def without_objects(image, labels):
    labels[:] = 0


def with_another_value(image, labels):
    labels[0, 0, :3] = 9


def with_a_tiny_spleen(image, labels):
    labels[labels == 2] = 0
    labels[9, 9, 1] = 2


@pytest.mark.parametrize(
    ("change", "rule", "said"),
    [
        (dark, "constant", "every voxel is 7"),
        (brighter, "intensity", "of most other images"),
        (without_objects, "no_object", "no named object"),
        (with_another_value, "unnamed_value", r"9 (3 voxels)"),
        (with_a_tiny_spleen, "tiny_object", "below 20 voxels: spleen 1"),
    ],
)
def test_a_fault_of_one_image_is_named(root, change, rule, said):
    write(root, "case4", seed=4, change=change)
    result = check(root)
    chosen = [finding for finding in result.findings if finding.rule == rule]
    assert [finding.items for finding in chosen] == [("case4",)] and said in chosen[0].message
    assert {finding.items for finding in result.findings} == {("case4",)}
    assert bool(result.wrong) == (RULES[rule][0] == WRONG)


def test_a_label_on_another_grid_and_a_damaged_file_are_named_and_tried_again(root):
    moved = AFFINE.copy()
    moved[0, 3] = 50
    write(root, "case1", seed=1, label_affine=moved)
    (root / "images" / "case2.nii.gz").write_bytes(b"no image")
    assert found(check(root)) == {("unreadable", ("case1",)), ("unreadable", ("case2",))}
    write(root, "case1", seed=1)
    write(root, "case2", seed=2)
    assert found(check(root)) == set()


def test_voxels_of_another_size_are_named(root):
    write(root, "case5", seed=5, affine=np.diag([-2.0, -2.0, 40.0, 1.0]))
    assert found(check(root)) == {("spacing", ("case5",))}


def test_an_organ_that_nobody_labelled_is_named(root):
    assert found(check(root, names={**NAMES, "aorta": 5})) == {("never_seen", ())}


def test_the_same_image_of_two_patients_is_a_leak_whatever_its_orientation_and_type(root):
    image = read_volume(root / "images" / "case0.nii.gz")
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = image.shape[0] - 1
    copy = Volume(image.array[::-1].astype(np.float32), image.affine @ flip)
    write_volume(copy, root / "images" / "case7.nii.gz")
    result = check(root)
    assert found(result) == {("same_picture", ("case0", "case7"))} and result.wrong


def test_the_same_image_in_another_window_looks_alike(root):
    write(root, "case7", seed=0, change=lambda image, labels: np.clip(image, 5, 390, out=image))
    assert found(check(root)) == {("nearly_same_picture", ("case0", "case7"))}


def test_the_same_image_twice_of_one_patient_is_no_leak(root):
    shutil.copy(root / "images" / "case0.nii.gz", root / "images" / "case7.nii.gz")
    one = {"case0": {"patient": "one"}, "case7": {"patient": "one"}}
    result = check(root, about=one)
    assert found(result) == {("repeated", ("case0", "case7"))} and not result.wrong


def test_a_patient_in_two_splits_is_a_leak(root):
    splits = {f"case{n}": {"split": "validation" if n > 7 else "training"} for n in range(10)}
    splits["case9"] |= {"patient": "case0"}
    result = check(root, about=splits)
    assert found(result) == {("split", ("case0", "case9"))}
    assert "patient case0 stands in training and in validation" in result.wrong[0].message


def test_patients_whose_names_differ_in_spelling_alone_are_named(root):
    spelled = {"case1": {"patient": "P-007"}, "case2": {"patient": "p7"}, "case3": {"patient": "p70"}}
    assert found(check(root, about=spelled)) == {("alike_patients", ("case1", "case2"))}


def test_rules_can_be_left_out(root):
    write(root, "case4", seed=4, change=with_another_value)
    assert check(root, ignored=["unnamed_value"]).findings == ()


def test_what_is_known_is_not_read_again(root, monkeypatch):
    first = check(root)
    write(root, "case4", seed=4, change=without_objects)
    opened = []
    read_image = audit_facts.read_image
    monkeypatch.setattr(audit_facts, "read_image", lambda item: opened.append(item["patient"]) or read_image(item))
    again = check(root)
    assert opened == ["case4"] and found(again) == {("no_object", ("case4",))}
    assert again.facts["case5"].digest == first.facts["case5"].digest


@pytest.fixture
def prepare_script(repository):
    spec = importlib.util.spec_from_file_location("prepare_script", repository / "scripts" / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_says_what_is_wrong_by_its_exit_code_and_leaves_a_page(root, prepare_script, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--check", "--layout", "folders", "--data", str(root), "--output", str(out), "--min-voxels", "20"]
    words += ["--options", json.dumps({"names": NAMES})]
    assert prepare_script.main(words) == 0
    assert "0 findings wrong" in capsys.readouterr().out
    write(root, "case4", seed=4, change=without_objects)
    assert prepare_script.main(words) == 1
    assert "wrong: the label map shows none" in capsys.readouterr().out
    assert "case4" in (out / "check.html").read_text() and (out / "check.png").stat().st_size > 1000
    assert prepare_script.main([*words, "--ignore", "no_object"]) == 0
    assert not (out / "datalist.json").exists()
