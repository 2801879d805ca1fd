"""The command `monai-sam`."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bundle.commands import common, prepare
from bundle.commands.main import cli, main, speak_plainly
from bundle.data.datasets import LAYOUTS
from bundle.data.slice_files import STORAGES
from bundle.data.slices import SliceFilters
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import read_label, write_label, write_volume
from bundle.transforms.frames import PLANES

COMMANDS = ["segment", "evaluate", "train", "prepare", "download", "export", "families"]


def monai_sam(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def asked(monkeypatch):
    """What a command would run, instead of running it."""
    runs = []
    monkeypatch.setattr(common, "run_layers", lambda layers, values, wiring=None: runs.append((layers, values, wiring)))
    monkeypatch.setattr(common, "explain_errors", lambda resume: None)
    return runs


@pytest.fixture
def image(tmp_path):
    (tmp_path / "ct.nii.gz").touch()
    return tmp_path / "ct.nii.gz"


# ---- the door -------------------------------------------------------------------------------------------------------

WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "monai", "numpy", "ignite", "matplotlib"):
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
from click.testing import CliRunner
from bundle.commands.main import cli
for words in (["--help"], ["--version"], *([name, "--help"] for name in sys.argv[1:])):
    answer = CliRunner().invoke(cli, words)
    assert answer.exit_code == 0, (words, answer.output, answer.exception)
"""


def test_help_imports_no_torch(repository):
    command = [sys.executable, "-c", WITHOUT_TORCH, *COMMANDS]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_help_names_every_command():
    answer = monai_sam("--help").output
    assert all(f"  {name} " in answer for name in COMMANDS)


def test_a_command_that_does_not_exist_and_an_option_that_is_mistyped_are_refused_with_what_was_meant(image):
    assert "No such command 'segmnt'" in monai_sam("segmnt").output
    answer = monai_sam("segment", image, "--ouput", "out")
    assert answer.exit_code == 2 and "No such option" in answer.output and "--output" in answer.output


def test_another_package_adds_a_command_by_an_entry_point(monkeypatch):
    from importlib.metadata import EntryPoint

    point = EntryPoint("serve", "monailabel_app.command:serve", "monai_sam.commands")
    monkeypatch.setattr("bundle.commands.main.entry_points", lambda group: [point])
    assert "Run the MONAI Label server" in monai_sam("--help").output
    broken = EntryPoint("serve", "no_such_package:serve", "monai_sam.commands")
    monkeypatch.setattr("bundle.commands.main.entry_points", lambda group: [broken])
    answer = monai_sam("serve", "x")
    assert answer.exit_code == 1 and "serve cannot be loaded" in answer.output


def test_the_choices_that_are_written_in_the_commands_are_those_of_the_bundle():
    assert set(prepare.LAYOUTS) == set(LAYOUTS) and set(prepare.STORAGES) == set(STORAGES)
    assert prepare.PLANES == PLANES and SliceFilters(**prepare.FILTERS) == SliceFilters()


def test_an_error_of_ours_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("bundle.commands.main.speak_plainly", lambda: None)
    with pytest.raises(SystemExit) as caught:
        main(["families", "--image", "none.nii.gz"])
    assert caught.value.code == 2 and "'none.nii.gz' does not exist" in capsys.readouterr().err


def test_our_log_is_shown_as_sentences_and_that_of_others_only_where_it_matters(monkeypatch, capsys):
    names = ("bundle", "bundle.data", "monailabel_app", "ignite", None)
    before = [(log := logging.getLogger(name), log.level, log.handlers, log.propagate) for name in names]
    try:
        speak_plainly()
        logging.getLogger("bundle.batch").info("done")
        logging.getLogger("bundle.data.grid").info("a detail")
        logging.getLogger("bundle.data.grid").warning("clipped")
        logging.getLogger("ignite.engine").error("Engine run is terminating")
        assert tuple(capsys.readouterr()) == ("done\n", "warning: clipped\n")
    finally:
        for log, level, handlers, propagate in before:
            log.handlers, log.propagate = handlers, propagate
            log.setLevel(level)


# ---- segment --------------------------------------------------------------------------------------------------------


def test_a_box_and_points_become_a_prompts_file_beside_the_results(image, asked, tmp_path):
    out = tmp_path / "out"
    box, points = ("--box", 1, 9, 2, 8, 3, 7), ("--point", 4, 5, 6, "--background", 0, 0, 5, "--name", "liver")
    answer = monai_sam("segment", image, *box, *points, "-o", out)
    assert answer.exit_code == 0, answer.output
    ((layers, values, _),) = asked
    assert layers == ["inference"] and values["image"] == str(image) and values["resume"] is True
    assert json.loads(Path(values["prompts"]).read_text()) == {
        "objects": [
            {
                "name": "liver",
                "label": 1,
                "box": [[1, 2, 3], [9, 8, 7]],
                "points": [[4, 5, 6], [0, 0, 5]],
                "point_labels": [1, 0],
            }
        ]
    }
    assert f"--image {image}" in answer.output and "python -m monai.bundle run" in answer.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say what to segment"),
        (("--box", 1, 2, 3, 4, 5, 6, "--prompts", "ct.nii.gz"), "not both"),
        (("--box", 1, 2, 3), "requires 6 arguments"),
        (("--point", "a", 2, 3), "not a valid float"),
        (("--label", "ct.nii.gz", "--format", ".bmp"), "'.bmp' is not one of"),
        (("--label", "ct.nii.gz", "--family", "medsan"), "no family 'medsan'; known are default"),
        (("--label", "ct.nii.gz", "--family", "mine.json"), "there is no file mine.json"),
        (("--label", "ct.nii.gz", "--checkpoint", "none.pth"), "'none.pth' does not exist"),
        (("--label", "ct.nii.gz", "-o", "ct.nii.gz"), "ct.nii.gz is a file; choose a folder"),
        (("--label", "ct.nii.gz", "-o", "ct.nii.gz/below"), "ct.nii.gz is a file; choose a folder"),
        (("second.nii.gz", "--box", 1, 2, 3, 4, 5, 6), "a box or point belongs to one image"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(words, message, image, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second.nii.gz").touch()
    answer = monai_sam("segment", "ct.nii.gz", "-o", "out", *words)
    assert answer.exit_code == 2 and message in " ".join(answer.output.split()) and not asked
    assert not (tmp_path / "out").exists()


def test_a_volume_is_segmented_and_the_same_command_does_nothing_more(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "bundle")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    volume, label, names = make_phantom(shape=(32, 28, 6), spacing=(12.0, 12.0, 40.0))
    write_volume(volume, tmp_path / "$ct.nii.gz")
    write_label(label.array, label, tmp_path / "label.nii.gz")
    (tmp_path / "names.json").write_text(json.dumps({"liver": names["liver"]}))
    words = (
        "segment",
        tmp_path / "$ct.nii.gz",
        "--label",
        tmp_path / "label.nii.gz",
        "-o",
        tmp_path / "out",
        "--slices",
    )
    words = (*words, "--names", tmp_path / "names.json", "--statistics", "--device", "cpu")
    answer = monai_sam(*words)
    assert answer.exit_code == 0, answer.exception
    found = read_label(tmp_path / "out" / "$ct.nii.gz")
    assert found.shape == volume.shape and set(np.unique(found.array)) == {0, names["liver"]}
    assert "liver" in (tmp_path / "out" / "report.csv").read_text() and "Label maps and scores lie" in caplog.text
    written = (tmp_path / "out" / "$ct.nii.gz").stat().st_mtime_ns
    assert monai_sam(*words).exit_code == 0
    assert (tmp_path / "out" / "$ct.nii.gz").stat().st_mtime_ns == written
    other = monai_sam(*words, "--axis", 1)
    assert "holds results with axis 2, now 1" in str(other.exception.__cause__ or other.exception)


# ---- train, evaluate, and the small ones ----------------------------------------------------------------------------


def test_training_lays_recipe_tuning_and_dataset_over_each_other(asked, tmp_path):
    words = (
        "--tuning",
        "lora",
        "--epochs",
        2,
        "--set",
        "learning_rate",
        1e-3,
        "--set",
        "dataset_items#patient",
        "(s..)",
    )
    assert monai_sam("train", tmp_path, "-o", tmp_path / "run", *words).exit_code == 0
    ((layers, values, _),) = asked
    assert layers == ["train", "recipes/default", "tuning/finetune", "tuning/lora", "datasets/folders"]
    assert (values["epochs"], values["learning_rate"], values["dataset_items#patient"]) == (2, 0.001, "(s..)")


def test_several_processes_add_their_layer(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert monai_sam("train", tmp_path, "-o", tmp_path / "run").exit_code == 0
    assert monai_sam("evaluate", tmp_path, "-o", tmp_path / "run").exit_code == 0
    assert [run[0][-1] for run in asked] == ["multi_gpu_train", "multi_gpu_evaluate"]


def test_evaluation_takes_all_images_unless_a_part_is_named(asked, tmp_path):
    words = ("evaluate", tmp_path, "-o", tmp_path / "e", "--protocol", "box", "--protocol", "points_1", "--volumes")
    assert monai_sam(*words).exit_code == 0 and monai_sam(*words, "--items", "test").exit_code == 0
    assert [run[2]["items"] for run in asked] == ["@dataset_items", "$@splits['test']"]
    assert asked[0][0][-1] == "evaluate_volumes" and asked[0][1]["protocols"] == ["box", "points_1"]


def test_the_list_of_downloads_and_of_families_is_printed():
    assert "medsam" in monai_sam("download", "--list").output
    answer = monai_sam("families", "--variants", "default").output
    assert answer.splitlines()[0].startswith("family") and "default" in answer.splitlines()[1]


def test_weights_are_exported(tmp_path):
    answer = monai_sam("export", "state_dict", tmp_path / "model.pt")
    assert answer.exit_code == 0 and (tmp_path / "model.pt").stat().st_size > 1_000_000
    assert str(tmp_path / "model.pt") in answer.output
