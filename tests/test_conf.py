"""Folders and numbers of --conf: used as they are said, or refused with a sentence."""

from __future__ import annotations

import os
import stat

import pytest

from monailabel_app.conf import chosen_folder, number_above_0
from monailabel_app.errors import RequestError


def folder_of(conf, default):
    return chosen_folder(conf, "sessions", default, without="Sessions end with the server")


def test_the_folder_is_the_one_that_was_chosen_else_the_default_else_none(tmp_path):
    assert folder_of({"sessions": str(tmp_path / "a" / "b")}, tmp_path / "c") == tmp_path / "a" / "b"
    assert folder_of({}, tmp_path / "c") == tmp_path / "c"
    assert folder_of({"sessions": "off"}, tmp_path / "d") is None and not (tmp_path / "d").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of folders")
def test_it_is_made_for_this_user_alone_and_one_of_others_is_refused(tmp_path):
    assert stat.S_IMODE(folder_of({}, tmp_path / "new").stat().st_mode) == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    for conf in ({}, {"sessions": str(tmp_path / "open")}):
        with pytest.raises(RequestError, match=f"chmod 700 {tmp_path / 'open'}"):
            folder_of(conf, tmp_path / "open")


@pytest.mark.parametrize("path", ["here", "~nobody-of-that-name/x", "./x"])
def test_a_path_that_is_not_full_is_refused(tmp_path, path):
    with pytest.raises(RequestError, match='sessions must be the full path of a folder, or "off", got'):
        folder_of({"sessions": path}, tmp_path)


def test_a_chosen_folder_that_cannot_be_written_in_is_an_error_and_the_default_is_done_without(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RequestError, match=r"sessions: nothing can be written in .*file/x \(Not a directory\)"):
        folder_of({"sessions": str(tmp_path / "file" / "x")}, tmp_path)
    assert folder_of({}, tmp_path / "file" / "x") is None
    assert "Sessions end with the server: nothing can be written in" in caplog.text


def test_a_number_is_above_0_or_refused():
    assert number_above_0({"session_days": "0.5"}, "session_days", 30) == 0.5
    assert number_above_0({}, "session_days", 30) == number_above_0({"session_days": ""}, "session_days", 30) == 30
    for said in ("0", "-1", "nan", "soon", "inf"):
        with pytest.raises(RequestError, match=f"session_days must be a number above 0, got '{said}'"):
            number_above_0({"session_days": said}, "session_days", 30)
