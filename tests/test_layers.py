"""MONAI's runner over layers, with values that stay what they are."""

from __future__ import annotations

import json
import shlex

import pytest

from bundle import layers
from bundle.errors import OptionError, RunStateError
from bundle.layers import command_of, refuse_other_settings, remember_settings, run_layers, run_unless

CONFIG = {
    "imports": ["$import pathlib"],
    "image": None,
    "count": 3,
    "names": [],
    "part": {"_target_": "builtins.dict", "axis": 2, "who": "nobody"},
    "seen": ["@image", "@count", "@names", "@part"],
    "out": "seen.json",
    "run": [
        {"_target_": "bundle.command_line.start", "resolved": "$__local_refs"},
        "$pathlib.Path(@out).write_text(str(@seen))",
    ],
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A bundle with one config, which writes down what it saw."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    (tmp_path / "configs" / "show.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(layers, "BUNDLE_ROOT", tmp_path)
    return tmp_path


def seen(root, **values):
    run_layers(["show"], {"out": str(root / "seen.txt"), **values})
    return (root / "seen.txt").read_text()


@pytest.mark.parametrize(
    "name", ["$x", "$open('made', 'w')", "@count", "%part", "a#b", "20250101", "None", "é b", "[a]"]
)
def test_a_value_reaches_the_config_as_it_is(name, root, monkeypatch):
    monkeypatch.chdir(root)
    assert seen(root, image=name, names=[name]) == str([name, 3, [name], {"axis": 2, "who": "nobody"}])
    assert not (root / "made").exists()


def test_none_leaves_the_config_its_own_value(root):
    assert seen(root, count=None, image="a").startswith("['a', 3")


def test_a_nested_option_is_set_unless_monai_would_run_it(root):
    assert "{'axis': 1, 'who': 'me'}" in seen(root, **{"part#axis": 1, "part#who": "me"})
    for value in ("$1", "@count", "%x", ["$1"], {"a": "@count"}):
        with pytest.raises(OptionError, match="part#who must be a plain value"):
            seen(root, **{"part#who": value})


def test_an_option_that_the_layers_do_not_have_is_refused(root):
    with pytest.raises(OptionError, match=r"--coumt \(did you mean --count\?\)"):
        seen(root, coumt=1)


def test_wiring_of_our_own_is_read_by_monai(root):
    run_layers(["show"], {"out": str(root / "seen.txt"), "count": 7}, wiring={"image": "@count"})
    assert (root / "seen.txt").read_text().startswith("[7, 7")


def test_the_command_can_be_typed(root):
    values = {"image": "a b.nii.gz", "names": ["x"], "resume": True, "device": None}
    words = shlex.split(command_of(["show"], values))
    assert words[:6] == ["python", "-m", "monai.bundle", "run", "--config_file", str(root / "configs" / "show.json")]
    assert words[6:] == ["--image", "a b.nii.gz", "--names", "['x']", "--resume", "True"]
    assert str([str(root / "configs" / f"{name}.json") for name in "ab"]) in shlex.split(command_of(["a", "b"], {}))


def test_a_run_that_is_done_is_not_repeated(root, caplog):
    caplog.set_level("INFO", "bundle")
    run_unless(root / "seen.txt", ["show"], out=str(root / "seen.txt"), image="first")
    run_unless(root / "seen.txt", ["show"], out=str(root / "seen.txt"), image="second")
    assert "first" in (root / "seen.txt").read_text()
    assert "--image first" in caplog.text and "seen.txt is there" in caplog.text


def test_only_the_setting_that_differs_is_named(tmp_path):
    remember_settings(tmp_path, {"seed": 1, "digest": "0" * 64})
    remember_settings(tmp_path, {"seed": 1, "digest": "0" * 64})
    with pytest.raises(RunStateError) as caught:
        remember_settings(tmp_path, {"seed": 2, "digest": "0" * 64})
    assert str(caught.value) == f"{tmp_path} holds results with seed 1, now 2; choose another --output"


def test_a_long_setting_is_shortened(tmp_path):
    with pytest.raises(RunStateError, match=r"organs .{77}\.\.\., now nothing; choose"):
        refuse_other_settings(tmp_path, {"organs": ["liver"] * 50}, {"organs": None})
