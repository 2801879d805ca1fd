"""An evaluation from a configuration, alone and in several processes."""

from __future__ import annotations

import json
import socket

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp
from test_evaluator import ORGANS, slices

from bundle.evaluation.baselines import ellipse, otsu
from bundle.evaluation.evaluator import open_with_baseline
from bundle.evaluation.protocols import ProtocolError
from bundle.evaluation.records import read_records
from bundle.evaluation.study import Study
from bundle.inference.predictor import SlicePredictor
from bundle.inference.store import EmbeddingStore
from bundle.networks.families import build_network, load_family

PROTOCOLS = ("box", "box_jitter_20")


def study(folder, baseline=ellipse, **options):
    return Study(open_with_baseline(baseline), slices(), organs=ORGANS, protocols=PROTOCOLS, folder=folder, **options)


def test_a_study_ends_in_a_report_that_compares_with_an_earlier_one(tmp_path):
    study(tmp_path / "ellipse").run()
    page = study(tmp_path / "otsu", otsu, name="otsu", before={"ellipse": tmp_path / "ellipse"}).run()
    assert "ellipse → otsu" in page.read_text()
    content = json.loads((page.parent / "summary.json").read_text())
    assert {row["protocol"] for row in content["comparison"]} == set(PROTOCOLS)


def test_a_replayed_study_shows_the_same_prompts(tmp_path):
    study(tmp_path / "first").run()
    study(tmp_path / "second", otsu, replay=tmp_path / "first", seed=7).run()
    first, second = read_records(tmp_path / "first"), read_records(tmp_path / "second")
    assert [record["prompt"] for record in first] == [record["prompt"] for record in second]


def test_a_misspelt_protocol_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ProtocolError, match="known are"):
        Study(open_with_baseline(ellipse), [], organs=ORGANS, protocols=["bocks"], folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def evaluate_as(rank, folder, port):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    study(folder).run()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_get_what_one_gets(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(evaluate_as, args=(tmp_path / "two", port), nprocs=2)
    study(tmp_path / "one").run()

    def scores(folder):
        return [(record["key"], record["organ"], record["dsc"], record["nsd"]) for record in read_records(folder)]

    assert scores(tmp_path / "two") == scores(tmp_path / "one")
    assert (tmp_path / "two" / "progress-1.jsonl").stat().st_size > 0
    summaries = [json.loads((tmp_path / name / "summary.json").read_text())["summary"] for name in ("one", "two")]
    assert summaries[0] == summaries[1]


def test_a_network_is_evaluated_with_its_own_prompts_and_logits(tmp_path):
    family = load_family("default")
    predictor = SlicePredictor(
        build_network(family, random=True, seed=0), family.contract, store=EmbeddingStore(), device="cpu"
    )
    Study(predictor, slices(1), organs={1: "liver"}, protocols=["clicks_from_point"], folder=tmp_path).run()
    records = read_records(tmp_path)
    assert [len(record["prompt"]["points"]) for record in records] == list(range(1, len(records) + 1))
    assert all(record["encode_seconds"] > 0 and record["predicted_iou"] is not None for record in records)
