"""The three commands of docs/flare22.md, shortened: three patients (one real CT, four slices), a network of 64 px."""

from __future__ import annotations

import ast
import csv
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from evaluation_room import write_family, write_weights
from training_room import one_thread as one_thread

from bundle.data.volume import Volume, read_label, read_volume, write_label, write_volume
from bundle.evaluation.tables import COMPARISON_FIELDS

SLICES = slice(92, 96)  # of the 112 of the real CT; liver and spleen survive MedSAM's filters here
QUIET = "--logging_file False"
SHORTER = (
    "--workers 1",  # starting processes takes longer than the work
    f"--family_name tiny.json --start medsam.safetensors --epochs 1 --steps_per_epoch 2 --threads 1 {QUIET}",
    f"--before_checkpoint medsam.safetensors --limit 2 {QUIET}",
)


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "flare22.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def commands(page):
    """The words of each command of the page's first block."""
    block = re.findall(r"```bash\n(.+?)```", page, re.S)[0].replace("\\\n", " ")
    return [shlex.split(line) for line in block.splitlines()]


@pytest.fixture
def study(real_data, tmp_path, monkeypatch, one_thread):
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


@pytest.fixture
def run(repository, monkeypatch):
    """Runs a command of the page in this process, with the small family and further options."""
    own = {r"\b(?=(configs|scripts)/)": f"{repository}/", "^medsam$": "tiny.json"}

    def run_command(words, options):
        for pattern, replacement in own.items():
            words = [re.sub(pattern, replacement, word) for word in words]
        python, *words = [*words, *options.split()]
        assert python == "python"
        start = runpy.run_module if words[0] == "-m" else runpy.run_path
        monkeypatch.setattr(sys, "argv", words[1:] if words[0] == "-m" else words)
        start(sys.argv[0], run_name="__main__")

    return run_command


@pytest.mark.real_data
def test_three_commands_end_in_the_table_of_baseline_and_fine_tuned(study, commands, run, capsys):
    prepare, train, evaluate = zip(commands, SHORTER, strict=True)
    with pytest.raises(SystemExit, match="0"):
        run(*prepare)
    assert "dropped by component_3d" in capsys.readouterr().out
    run(*train)
    run(*evaluate)

    table = Path("runs", "flare22_table")
    with (table / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COMPARISON_FIELDS
    words, _ = evaluate
    protocols = ast.literal_eval(words[words.index("--protocols") + 1])
    assert {row["protocol"] for row in rows} == set(protocols)
    organs = {row["organ"] for row in rows if row["protocol"] == "box"}
    assert {"liver", "spleen", "macro mean"} <= organs
    assert len(rows) == len(protocols) * len(organs) * len(("dsc", "nsd"))
    text = (table / "tables.md").read_text(encoding="utf-8")
    assert re.search(r"DSC before \| +DSC after .* NSD before \| +NSD after", text)
    assert "MedSAM → fine-tuned" in text
    assert "NSD at 2 mm" in (table / "report.html").read_text(encoding="utf-8")


def test_the_page_gives_three_commands_and_the_published_numbers(page, commands, repository):
    assert [words[1] for words in commands] == ["scripts/prepare.py", "-m", "-m"]
    for name in re.findall(r"configs/[\w/]+\.json", page):
        assert (repository / name).is_file(), name
    assert all(number in page for number in ("0.7572", "0.4871", "0.7684", "0.5913"))
