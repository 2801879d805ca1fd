"""The table of organs and modalities that the shipped model never saw labelled."""

from __future__ import annotations

import importlib.util
import re

import pytest

from bundle.data.labelled_slices import read_pool


@pytest.fixture
def unseen(repository):
    spec = importlib.util.spec_from_file_location("unseen", repository / "scripts" / "unseen.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.real_data
def test_the_table_names_model_slices_and_scores(unseen, real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(unseen, "STRUCTURES", [row for row in unseen.STRUCTURES if row[0].startswith("liver")])
    monkeypatch.setattr(unseen, "read_pool", lambda items, **options: read_pool(items, **options)[1:2])
    arguments = ["--data", str(real_data), "--output", str(tmp_path)]
    unseen.main(arguments)
    first = capsys.readouterr().out.splitlines()
    name, model, slices, *scores = (cell.strip() for cell in first[2].strip("|").split("|"))
    assert (name, model, slices) == ("liver, CT (dcmqi)", "shipped", "1")
    assert len(scores) == len(unseen.COLUMNS)
    assert all(re.fullmatch(r"[01]\.\d\d / [01]\.\d\d", score) for score in scores)
    assert float(scores[0].split(" / ")[0]) > 0.8
    unseen.main(arguments)  # a finished run is read, not made again
    assert capsys.readouterr().out.splitlines() == first


def test_a_model_without_a_name_is_refused(unseen, tmp_path, capsys):
    with pytest.raises(SystemExit):
        unseen.main(["--output", str(tmp_path), "--models", "weights.safetensors"])
    assert "expected name=checkpoint" in capsys.readouterr().err
