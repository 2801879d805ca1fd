"""`python -m monai.bundle run` as people type it: in a folder of their own, with a clone or the unzipped bundle."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from warm_process import run_warm

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import read_label, read_volume, write_label, write_volume
from bundle.families.checkpoints import save_checkpoint
from bundle.families.family import build_network, load_family

# Runs `python -m monai.bundle` without the installed package, and says which one it took instead.
WITHOUT_INSTALLED_PACKAGE = """
import runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path[0] = ""
try:
    runpy.run_module("monai.bundle", run_name="__main__")
finally:
    print("package:", sys.modules["bundle"].__file__)
"""


pytestmark = pytest.mark.slow
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def monai_bundle(folder, *arguments):
    """Run MONAI's command in a folder; the finished process."""
    return run_warm(folder, "run", *arguments, environment=ALONE)


def new_interpreter(folder, *arguments, program=("-m", "monai.bundle"), **environment):
    """The same where it matters how the interpreter starts."""
    command = [sys.executable, *program, "run", *map(str, arguments)]
    environment = {**os.environ, **ALONE, **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A person's folder: a small CT, its label map, prompts, and weights of the default family (random ones)."""
    folder = tmp_path_factory.mktemp("mine")
    image, label, _ = make_phantom(shape=(32, 28, 6), spacing=(12.0, 12.0, 40.0))
    write_volume(image, folder / "ct.nii.gz")
    write_label(label.array, label, folder / "label.nii.gz")
    objects = [
        {"name": "liver", "label": 3, "box": [[4, 4, 3], [14, 16, 3]], "points": [[9, 9, 3]]},
        {"name": "spleen", "label": 7, "points": [[22, 9, 2], [25, 9, 2]], "point_labels": [1, 0]},
    ]
    (folder / "prompts.json").write_text(json.dumps({"objects": objects}))
    family = load_family("default")
    metadata = {"family": "default", "contract": dict(family.contract_def)}
    save_checkpoint(build_network(family, random=True), folder / "weights.safetensors", metadata=metadata)
    return folder


def test_prompts_of_a_file_are_answered_on_the_grid_of_the_image(folder, repository):
    done = monai_bundle(
        folder,
        *("--config_file", repository / "configs" / "inference.json", "--checkpoint", "weights.safetensors"),
        *("--image", "ct.nii.gz", "--prompts", "prompts.json", "--output_dir", "out", "--dimension", 2),
    )
    assert done.returncode == 0, done.stderr
    image, written = read_volume(folder / "ct.nii.gz"), read_label(folder / "out" / "ct.nii.gz")
    assert written.shape == image.shape
    np.testing.assert_allclose(written.affine, image.affine)
    assert set(np.unique(written.array)) <= {0, 3, 7}
    report = json.loads((folder / "out" / "ct.json").read_text())
    assert [(row["name"], row["label"], row["slices"]) for row in report["objects"]] == [
        ("liver", 3, 1),
        ("spleen", 7, 1),
    ]


def test_the_unzipped_bundle_runs_with_its_own_package_from_another_folder(folder, repository, tmp_path):
    make_bundle = runpy.run_path(str(repository / "scripts" / "make_bundle.py"))["make_bundle"]
    with zipfile.ZipFile(make_bundle(tmp_path, weights=folder / "weights.safetensors")) as archive:
        archive.extractall(tmp_path)
    done = new_interpreter(
        folder,
        *("--config_file", tmp_path / "monai_sam" / "configs" / "inference.json"),
        *("--image", "ct.nii.gz", "--label", "label.nii.gz", "--output_dir", tmp_path / "out"),
        *("--label_names", "{'spleen': 3, 'left kidney': 13}"),
        program=("-c", WITHOUT_INSTALLED_PACKAGE),
    )
    assert done.returncode == 0, done.stderr
    assert f"package: {tmp_path / 'monai_sam' / 'bundle' / '__init__.py'}" in done.stdout
    report = json.loads((tmp_path / "out" / "ct.json").read_text())
    assert {row["name"] for row in report["objects"]} == {"spleen", "left kidney"}
    assert all(0 <= row["dsc"] <= 1 for row in report["objects"])
    assert read_label(tmp_path / "out" / "ct.nii.gz").shape == (32, 28, 6)


def test_odd_names_hidden_files_a_damaged_file_and_a_locale_without_letters_do_not_end_a_run(folder, repository):
    images, answers = folder / "20240101", folder / "$prompts"
    images.mkdir(), answers.mkdir()
    for name in ("a#b", "$x"):
        (images / f"{name}.nii.gz").write_bytes((folder / "ct.nii.gz").read_bytes())
    (images / "damaged.nii.gz").write_bytes(b"nothing")
    (images / "._damaged.nii.gz").write_bytes(b"\0\5\x16\7")
    prompts = '{"objects": [{"name": "Bäll", "box": [[4, 4, 3], [14, 99, 3]]}]}'
    for name, encoding in (("a#b", "utf-8"), ("$x", "utf-8-sig"), ("damaged", "utf-16")):
        (answers / f"{name}.json").write_bytes(prompts.encode(encoding))
    done = new_interpreter(
        folder,
        *("--config_file", repository / "configs" / "inference.json", "--checkpoint", "weights.safetensors"),
        *("--image", "20240101", "--prompts", "$prompts", "--output_dir", "1e5", "--dimension", 2),
        **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert done.returncode == 1, done.stderr
    ending = done.stderr[done.stderr.rindex("error: ") :]
    assert ending.startswith("error: 1 of 3 cases could not be segmented") and "Traceback" not in done.stderr
    assert "\n  damaged: cannot read 20240101/damaged.nii.gz" in ending
    written = {path.name for path in (folder / "1e5").iterdir()}
    assert written == {"a#b.nii.gz", "a#b.json", "$x.nii.gz", "$x.json", "damaged.json", "report.csv", ".claims"}
    report = json.loads((folder / "1e5" / "$x.json").read_text("utf-8"))
    assert (report["modality"], report["objects"][0]["name"]) == ("CT", "Bäll")
    log = done.stdout + done.stderr
    assert "passed over as no images, first ._damaged.nii.gz" in log
    assert "a#b: taken for CT" in log and "was clipped to [[4.0, 4.0, 3.0], [14.0, 27.0, 3.0]]" in log


def test_an_option_that_does_not_exist_ends_in_one_sentence_and_nothing_is_written(folder, repository, tmp_path):
    arguments = ("--image", folder / "ct.nii.gz", "--label", folder / "label.nii.gz", "--outputdir", "out")
    done = monai_bundle(tmp_path, "--config_file", repository / "configs" / "inference.json", *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: unknown option --outputdir (did you mean --output_dir?)"
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_ends_in_one_sentence(folder, repository):
    done = monai_bundle(folder, "--config_file", repository / "configs" / "inference.json", "--image", "ct.nii.gz")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: expected prompts or a label to draw boxes from, got neither")
    assert "Traceback" not in done.stderr


@pytest.mark.real_data
def test_a_real_ct_with_a_label_gives_a_label_map_of_its_organs(folder, repository, real_data, tmp_path):
    study = real_data / "flare22-style"
    done = monai_bundle(
        folder,
        *("--config_file", repository / "configs" / "inference.json", "--checkpoint", "weights.safetensors"),
        *("--image", study / "images", "--label", study / "labels", "--output_dir", tmp_path),
        *("--label_names", "{'pancreas': 4, 'gallbladder': 9}"),
    )
    assert done.returncode == 0, done.stderr
    (image,) = Path(study, "images").iterdir()
    written = read_label(tmp_path / image.name)
    assert written.shape == read_volume(image).shape
    assert set(np.unique(written.array)) <= {0, 4, 9}
    assert "pancreas" in done.stdout and "dsc" in done.stdout
