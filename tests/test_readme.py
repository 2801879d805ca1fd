"""What the README tells people to type works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from warm_process import run_warm

from bundle.commands.main import cli
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import read_label, write_volume
from bundle.evaluation.volume_table import group_table, way_of
from bundle.prompts.prompts import read_prompts
from monailabel_app.tasks.offered import MODELS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


COMMANDS = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_every_make_command_is_a_target(command):
    subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


PLOTS = {"active_learning.png", "curve.png", "performance.png"}
PAGES_SHOWN = {
    "host_page.png",
    "walkthrough_page.png",
    "walkthrough_studies.png",
}  # of the server, without an image
SHOWN = re.compile(r"!\[([^]]*)\]\(\S*?images/(\S+)\)(?:\n\n(.*?))?(?=\n\n|\Z)", re.DOTALL)


def test_a_picture_is_a_plot_or_generated_or_has_source_and_licence_beside_it():
    shown = [found for page in PAGES for found in SHOWN.findall(page.read_text("utf-8"))]
    assert {name for _, name, _ in shown} == {path.name for path in (ROOT / "docs/images").iterdir()}
    credits = (ROOT / "docs/data_license.txt").read_text("utf-8")
    for title, name, below in shown:
        of_people = "CC BY" in below and "data_license.txt" in below and f"docs/images/{name}" in credits
        assert name in PLOTS | PAGES_SHOWN or "generated" in title or of_people, name


def test_every_script_that_is_named_exists():
    for script in re.findall(r"python (scripts/\w+\.py)", TEXT):
        assert (ROOT / script).exists(), script


def test_the_inference_command_segments_the_phantom_with_the_prompts_shown(tmp_path):
    (command,) = [c for c in COMMANDS if "configs/inference.json" in c]
    (tmp_path / "prompts.json").write_text(blocks("json")[0])
    image, truth, _ = make_phantom(seed=0)
    write_volume(image, tmp_path / "ct.nii.gz")
    arguments = [a.replace("configs/", f"{ROOT}/configs/") for a in shlex.split(command)]
    assert arguments[:3] == ["python", "-m", "monai.bundle"]
    done = run_warm(tmp_path, *arguments[3:])
    assert done.returncode == 0, done.stderr
    (path,) = [p for p in (tmp_path / "out").rglob("*.nii.gz")]
    labels = read_label(path).array
    for prompts in read_prompts(tmp_path / "prompts.json"):
        found, wanted = labels == prompts.label, truth.array == prompts.label
        assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.5, prompts.name


def test_the_lines_of_python_run_as_they_stand(tmp_path, monkeypatch):
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    image, truth, labels = make_phantom(seed=0)
    write_volume(image, tmp_path / "ct.nii.gz")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    session = names["session"]
    assert list(np.flatnonzero(session.mask("liver").any(axis=(0, 1)))) == [35]
    shown, spleen = read_label(tmp_path / "organs.nii.gz").array, truth.array == labels["spleen"]
    assert set(np.unique(shown)) == {0, *names["names"].values()}
    found = shown == names["names"]["spleen"]
    assert 2 * (found & spleen).sum() / (found.sum() + spleen.sum()) > 0.8
    assert (found == session.mask("spleen")).all()  # locked: not one voxel went to the liver


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("monai-sam")])
def test_every_command_line_has_options_that_exist(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "DATA", "STUDIES"):
        (tmp_path / name).mkdir()
    for name in ("ct.nii.gz", "boxes.csv"):
        (tmp_path / name).touch()
    name, *words = shlex.split(command)[1:]
    if name == "serve":  # its options are those of the app
        return
    found = cli.get_command(click.Context(cli), name)
    found.make_context(name, words)


def pair(dsc: float, nsd: float) -> str:
    return f"{dsc:.3f} / {nsd:.3f}"


def result(name: str) -> Any:
    return json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text("utf-8"))


def both(scores: dict) -> str:
    return pair(scores["dsc"], scores["nsd"])


def test_its_numbers_of_other_modalities_and_the_worst_of_them_are_those_of_the_result_file():
    found, before = (result("sets")["models"][name] for name in ("version 9", "version 7"))
    assert all(both(before["macro"][prompt]) in TEXT for prompt in ("box", "point", "corrected"))
    assert both(result("sets")["models"]["ellipse"]["macro"]["box"]) in TEXT
    assert all(both(found["macro"][prompt]) in TEXT for prompt in ("box", "point", "corrected"))
    for name in ("ultrasound", "endoscopy", "microscopy"):
        unseen = result(f"without_{name}")["models"][f"without {name}"]["macro"]
        assert all(both(unseen[prompt]) in TEXT for prompt in ("box", "point"))
    for prompt in ("box", "point", "corrected"):
        worst = min((scores[prompt] for scores in found["sets"].values()), key=lambda scores: scores["dsc"])
        assert both(worst) in TEXT


def test_its_numbers_through_a_volume_and_the_worst_object_are_those_of_the_result_file():
    ways = [one for one in result("volume_models") if "ways" in one]
    for macro in (row for row in group_table(ways).rows if row[1].startswith("mean of")):
        count = sum(one["start"] == macro[0] for one in ways)
        assert f"| {count} | {macro[2]} | **{macro[-2]}** |" in TEXT
    chosen = {one["object"]: one["ways"][way_of(one)] for one in ways if one["start"] == "2D box"}
    worst = min(chosen.values(), key=lambda scores: scores["dsc"])
    assert pair(worst["dsc"], worst["nsd"]) in TEXT


@pytest.mark.parametrize("start", ["2D box", "3D box", "point"])
def test_its_numbers_of_clicks_through_a_volume_are_those_of_the_result_file(start):
    played = [one["dsc"] for one in result("volume_models") if one["start"] == f"{start}, then clicks"]
    first, last = np.mean([(scores[0], scores[-1]) for scores in played], axis=0)
    assert f"| {len(played)} | {first:.3f} | **{last:.3f}** |" in TEXT


def test_the_panel_of_slicer_is_filled_in_with_names_that_the_server_gives():
    (panel,) = [text for text in blocks("text") if "SmartEdit" in text]
    models, strategies = (re.findall(rf"{field}: +(\w+)", panel) for field in ("Model", "Strategy"))
    assert set(models) <= {"finetune", *MODELS} and strategies == ["foreground_random"]
