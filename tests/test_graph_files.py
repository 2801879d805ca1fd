"""Converted networks on disk: made once, whole or not there, made again where they are damaged."""

from __future__ import annotations

import stat
import threading

import pytest

from bundle.engines.graph_files import GraphFiles

PARTS = {"graph.xml": b"<net/>", "weights.bin": bytes(range(256)) * 20}


def test_a_graph_is_made_once_and_for_its_user_alone(tmp_path):
    made = []
    for _ in range(2):
        assert GraphFiles(tmp_path / "new").get("a", lambda: made.append(1) or PARTS) == PARTS
    assert made == [1]
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "a.zip").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "damage", [lambda old: b"", lambda old: old[:50], lambda old: old.replace(bytes(range(8)), bytes(8), 1)]
)
def test_a_damaged_graph_is_made_again(tmp_path, damage, caplog):
    files = GraphFiles(tmp_path)
    files.get("a", lambda: PARTS)
    path = tmp_path / "a.zip"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert files.get("a", lambda: PARTS) == PARTS and "damaged" in caplog.text
    assert GraphFiles(tmp_path).get("a", lambda: pytest.fail("made a third time")) == PARTS


def test_a_graph_that_could_not_be_made_leaves_nothing(tmp_path):
    with pytest.raises(ArithmeticError):
        GraphFiles(tmp_path).get("a", lambda: 1 / 0)
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*.part"))


def test_who_comes_while_it_is_made_waits_for_it(tmp_path):
    begun, may_end, found = threading.Event(), threading.Event(), []

    def slowly():
        begun.set()
        assert may_end.wait(60)
        return PARTS

    first = threading.Thread(target=lambda: GraphFiles(tmp_path).get("a", slowly))
    second = threading.Thread(target=lambda: found.append(GraphFiles(tmp_path).get("a", lambda: {})))
    first.start()
    assert begun.wait(60)
    second.start()
    may_end.set()
    first.join()
    second.join()
    assert found == [PARTS]


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    assert GraphFiles(tmp_path / "file" / "graphs").get("a", lambda: PARTS) == PARTS
    assert "cannot be kept" in caplog.text


def test_where_nothing_can_be_locked_a_graph_is_made_at_every_start(tmp_path, monkeypatch, caplog):
    def refuse(*_, **__):
        raise NotImplementedError("no locks here")

    monkeypatch.setattr("bundle.engines.graph_files.FileLock.acquire", refuse)
    assert GraphFiles(tmp_path).get("a", lambda: PARTS) == PARTS and "no locks here" in caplog.text
