"""The three commands of docs/flare22.md, shortened: three patients (one real CT, four slices), a network of 64 px."""

from __future__ import annotations

import csv
import re
import runpy
import sys
from pathlib import Path

import pytest
from evaluation_room import run_bundle, write_family, write_weights

from bundle.data.volume import Volume, read_label, read_volume, write_label, write_volume
from bundle.evaluation.tables import COMPARISON_FIELDS

SLICES = slice(92, 96)  # of the 112 of the real CT; liver and spleen survive MedSAM's filters here
PROTOCOLS = ["box", "box_shift_20"]


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "flare22.md").read_text(encoding="utf-8")


@pytest.fixture
def study(real_data, tmp_path, monkeypatch):
    """FLARE22Train with three patients, a small stand-in for MedSAM, and its weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    image = read_volume(real_data / "flare22-style" / "images" / "FLARE22_Tr_0001_0000.nii.gz")
    label = read_label(real_data / "flare22-style" / "labels" / "FLARE22_Tr_0001.nii.gz")
    part = Volume(image.array[:, :, SLICES], image.affine, image.modality)
    for n in range(1, 4):
        write_volume(part, Path("FLARE22Train", "images", f"FLARE22_Tr_000{n}_0000.nii.gz"))
        write_label(label.array[:, :, SLICES], part, Path("FLARE22Train", "labels", f"FLARE22_Tr_000{n}.nii.gz"))
    write_weights(write_family(tmp_path, base="medsam"), tmp_path / "medsam.safetensors", seed=1)
    return tmp_path


@pytest.mark.real_data
def test_three_commands_end_in_the_table_of_baseline_and_fine_tuned(study, repository, capsys):
    prepare = runpy.run_path(str(repository / "scripts" / "prepare.py"))["main"]
    options = "--layout flare22 --root FLARE22Train --output flare22 --storage zarr --split 0.7 0.1 0.2 --min-share 0"
    assert prepare([*options.split(), "--family", "tiny.json"]) == 0
    assert "dropped by component_3d" in capsys.readouterr().out

    tiny = {"dataset_dir": "flare22", "family_name": "tiny.json"}
    configs = ("train", "recipes/flare22_finetune", "datasets/prepared")
    named = {"save_best#metadata#family": "$@family.name"}  # a family of one's own is known by its name, not its path
    run_bundle(*configs, **tiny, **named, start="medsam.safetensors", epochs=1, steps_per_epoch=2, output_dir="tuned")

    run_bundle(
        *("evaluate", "datasets/prepared", "before_after"),
        **tiny,
        before_checkpoint="medsam.safetensors",
        checkpoint="tuned/best.safetensors",
        items="$@splits['test']",
        protocols=PROTOCOLS,
        pixels_of="$None",
        before_name="MedSAM",
        run_name="fine-tuned",
        output_dir="table",
    )
    with Path("table", "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COMPARISON_FIELDS
    organs = {row["organ"] for row in rows if row["protocol"] == "box"}
    assert {"liver", "spleen", "macro mean"} <= organs
    assert len(rows) == len(PROTOCOLS) * len(organs) * len(("dsc", "nsd"))
    table = Path("table", "tables.md").read_text(encoding="utf-8")
    assert re.search(r"DSC before \| +DSC after .* NSD before \| +NSD after", table)
    assert "MedSAM → fine-tuned" in table
    assert "NSD at 2 mm" in Path("table", "report.html").read_text(encoding="utf-8")


def test_the_page_gives_three_commands_and_the_published_numbers(page, repository):
    commands = re.findall(r"```bash\n(.+?)```", page, re.S)[0].replace("\\\n", " ")
    starts = [line.split()[:4] for line in commands.splitlines() if line.startswith("python")]
    assert [start[1] for start in starts] == ["scripts/prepare.py", "-m", "-m"]
    for name in re.findall(r"configs/[\w/]+\.json", page):
        assert (repository / name).is_file(), name
    assert all(number in page for number in ("0.7572", "0.4871", "0.7684", "0.5913"))
