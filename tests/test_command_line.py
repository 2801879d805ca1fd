"""What `python -m monai.bundle run` was told reaches us as it was typed, and what cannot work is refused first."""

from __future__ import annotations

import io
import json
import os
import sys

import fire
import pytest
from fire.parser import DefaultParseValue
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigWorkflow

from bundle import command_line
from bundle.command_line import TEXT_OPTIONS, check_known, check_run, start, typed_names, typed_options
from bundle.errors import OptionError, VolumeError

ODD_NAMES = [
    *("20250101", "1e5", "007", "1_000", "0x10", "True", "3.5", "-1", "+5", "1+1"),
    *("a#b.nii.gz", "#1", "$x", "$HOME", "$import os", "@image", "a@b", "a::b", "a,b", "a, b", "it's", '"quoted"'),
    *("(ct)", "[ct].nii.gz", "{ct}.nii.gz", "a b", "100%", "~", "é", "病人", "C:\\data\\ct.nii.gz", "a=b", "*", "''"),
]


@pytest.fixture
def typed(monkeypatch):
    """Pretend that this program is MONAI's command with some arguments."""

    def pretend(*words):
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setattr(sys, "argv", ["/monai/bundle/__main__.py", "run", *map(str, words)])

    return pretend


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    content = {
        "image": None,
        "output_dir": "eval",
        "dimension": 3,
        "resume": False,
        "part": {"axis": 2, "deep": {"x": 1}},
        "seen": ["@image", "$@output_dir + '/x'", "@dimension"],
        "initialize": ["$@resume", "$@part"],
        "run": [{"_target_": "bundle.command_line.start", "resolved": "$__local_refs"}, "$@seen"],
    }
    path.write_text(json.dumps(content))
    return path


# ---- as typed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_reaches_the_config_as_it_was_typed(name, typed, config):
    words = ["--config_file", str(config), f"--image={name}", f"--output_dir={name}", "--dimension", "2"]
    typed(*words)
    options = fire.Fire(lambda **options: options, command=words, serialize=lambda _: "")
    workflow = ConfigWorkflow(logging_file=False, **options)
    workflow.initialize()
    _, (image, output, dimension) = workflow.run()
    assert (image, output, dimension) == (name, f"{name}/x", 2)


def test_code_on_the_command_line_is_not_run(typed, config, tmp_path):
    code = f"$open({str(tmp_path / 'made')!r}, 'w')"
    typed("--config_file", config, "--image", code)
    workflow = ConfigWorkflow(config_file=str(config), logging_file=False, image=code)
    workflow.initialize()
    workflow.run()
    assert not (tmp_path / "made").exists()


@given(words=st.lists(st.sampled_from(["--a", "--b-c", "-d", "--e=1", "--e=a=b", "x", "-5", "--nof", "1e5", "a#b"])))
def test_options_are_split_as_fire_splits_them(words):
    seen = fire.Fire(lambda *rest, **options: options, command=words, serialize=lambda _: "")
    ours = {key: value is None or DefaultParseValue(value) for key, value in typed_options(words).items()}
    assert ours == seen


def test_a_list_stays_one_unless_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert typed_names({"image": "['a.nii.gz', 'b#.nii.gz']"}) == {"image": ["a.nii.gz", "b#.nii.gz"]}
    assert typed_names({"label_names": "{'liver': 1}"}) == {"label_names": {"liver": 1}}
    assert typed_names({"image": "[ct]"}) == {"image": ["ct"]}
    (tmp_path / "[ct]").mkdir()
    assert typed_names({"image": "[ct]"}) == {"image": "[ct]"}


def test_none_leaves_the_config_its_own_value_and_numbers_are_no_names():
    assert typed_names({"label": "None", "dimension": "2", "output_dir": "x"}) == {"output_dir": "x"}
    assert typed_names({"start": "$None"}) == {"start": None}  # as docs/evaluation.md says


def test_a_name_without_a_value_is_refused():
    with pytest.raises(OptionError, match="--image needs a value"):
        typed_names(typed_options(["--image", "--prompts", "p.json"]))


def test_the_names_are_options_of_our_configs(repository):
    keys = {key for path in (repository / "configs").rglob("*.json") for key in json.loads(path.read_text("utf-8"))}
    assert TEXT_OPTIONS - {"series"} <= keys  # `series` comes with the choice of a DICOM series


def test_every_config_that_runs_begins_with_start(repository):
    for path in (repository / "configs").rglob("*.json"):
        content = json.loads(path.read_text("utf-8"))
        steps = content.get("initialize") if path.name == "train.json" else content.get("run")
        if steps is not None:
            assert steps[0]["_target_"] == "bundle.command_line.start", path.name
            assert steps[0]["resolved"] == "$__local_refs"


def test_the_arguments_of_another_program_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--image", "x", "--wrong", "1"])
    resolved = {}
    start(resolved)
    assert resolved == {}


def test_a_name_that_the_terminal_cannot_show_does_not_end_a_run(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    start()
    print("Bäll", file=stream, flush=True)
    assert stream.buffer.getvalue() == b"B\\xe4ll\n"


# ---- known ----------------------------------------------------------------------------------------------------------


def test_unknown_options_are_refused_with_what_was_meant(config):
    words = ["--config_file", str(config), "--outputdir", "out", "--dimention", "2"]
    with pytest.raises(OptionError) as caught:
        check_known(typed_options(words))
    meant = "--outputdir (did you mean --output_dir?) and --dimention (did you mean --dimension?)"
    assert str(caught.value) == f"unknown option {meant}"


def test_an_option_that_is_like_nothing_points_to_the_list(config):
    with pytest.raises(OptionError, match=r"--qqq \(docs/README.md lists them\)"):
        check_known({"config_file": str(config), "qqq": "1"})


@pytest.mark.parametrize(
    "name", ["dimension", "part#axis", "part#deep#y", "part::axis", "+run", "run_id", "tracking_uri"]
)
def test_options_of_the_config_and_of_monai_are_known(name, config):
    check_known({"config_file": str(config), name: "1"})


def test_a_part_that_does_not_exist_is_refused(config):
    with pytest.raises(OptionError, match=r"did you mean --part#deep#x\?"):
        check_known({"config_file": str(config), "part#dep#x": "1"})


def test_a_switch_may_be_denied(config):
    check_known(typed_options(["--config_file", str(config), "--noresume"]))


def test_options_of_every_layer_are_known(config, tmp_path):
    layer = tmp_path / "layer.json"
    layer.write_text('{"rate": 1, "finalize": "$@rate"}')
    check_known({"config_file": f"['{config}','{layer}']", "rate": "2"})
    arguments = tmp_path / "arguments.json"
    arguments.write_text(json.dumps({"config_file": [str(config), str(layer)]}))
    check_known({"args_file": str(arguments), "rate": "2"})


# ---- before the first step ------------------------------------------------------------------------------------------


def test_a_folder_for_results_is_made(tmp_path):
    check_run(output_dir=tmp_path / "a" / "b", output_ext=".nrrd", device="cpu")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "text.txt").touch()
    for path in (tmp_path / "text.txt", tmp_path / "text.txt" / "below"):
        with pytest.raises(OptionError, match="cannot write into the folder"):
            check_run(output_dir=path)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a folder that nobody can write into")
def test_a_folder_that_cannot_be_written_into_is_refused():
    with pytest.raises(OptionError, match=r"cannot write into the folder /proc/here \(.+\); choose another"):
        check_run(output_dir="/proc/here")


def test_an_ending_and_a_device_that_do_not_exist_are_refused():
    with pytest.raises(VolumeError, match=r"cannot write label\.bmp; expected"):
        check_run(output_ext=".bmp")
    for device in ("cuda:99", "gpu"):
        with pytest.raises(OptionError, match=rf"device {device} cannot be used here \(.+\); take .*cpu"):
            check_run(device=device)


def test_a_busy_machine_is_told_how_threads_should_wait(typed, config, monkeypatch, caplog):
    typed("--config_file", config)
    monkeypatch.setattr(command_line, "waits_actively", lambda: True)
    start({})
    assert "OMP_WAIT_POLICY=PASSIVE" in caplog.text


# ---- options that nothing reads -------------------------------------------------------------------------------------


@pytest.fixture
def layers(tmp_path):
    path = tmp_path / "layers.json"
    content = {
        "share": 0.5,
        "rates": {"share": 0.2, "left": 1},
        "other_share": 1,
        "gathered": [1],
        "gather": ["$@gathered"],
        "run": ["$@share", "$@rates#share"],
    }
    path.write_text(json.dumps(content))
    return {"config_file": str(path)}


@pytest.mark.parametrize("name", ["share", "rates#share", "rates::share", "config_file", "tracking"])
def test_an_option_that_the_run_reads_is_taken(name, layers):
    check_known({name: "0.1", **layers})


@pytest.mark.parametrize(("name", "hint"), [("other_share", "did you mean --share"), ("rates#left", "leave out")])
def test_an_option_that_nothing_reads_is_refused(name, hint, layers):
    with pytest.raises(OptionError, match=rf"nothing in these configs reads --{name}, .*{hint}"):
        check_known({name: "0.1", **layers})


def test_what_is_run_by_name_reads_its_own_options(layers, typed):
    check_known({"gathered": "[2]", **layers}, run=command_line.run_ids(["gather", "--gathered", "[2]"]))
    check_known({"gathered": "[2]", "run_id": "gather", **layers})
    with pytest.raises(OptionError, match="reads --gathered"):
        check_known({"gathered": "[2]", **layers})


def test_an_option_that_another_option_refers_to_is_read(layers):
    check_known({"share": "@other_share", "other_share": "3", **layers})


def test_an_augmentation_that_the_shipped_recipe_does_not_make_is_refused(repository):
    names = ("train", "recipes/default", "recipes/shipped/batched", "recipes/shipped/2_train")
    files = str([str(repository / "configs" / f"{name}.json") for name in names])
    with pytest.raises(OptionError, match="unknown option --recolour_share"):
        check_known({"config_file": files, "recolour_share": "0.5"})
