"""The server's process checks what it was started with before it loads MONAI Label."""

from __future__ import annotations

import pytest

from bundle.errors import FamilyError, OptionError
from monailabel_app.server.launch import server_command
from monailabel_app.server.start import check_weights, conf_of


@pytest.mark.parametrize("conf", [{}, {"family": "medsam", "device": "cpu"}])
def test_the_options_of_the_app_are_those_that_the_server_was_started_with(conf):
    assert conf_of(server_command("studies", port=8000, conf=conf)[3:]) == conf


def test_options_may_be_given_in_short():
    assert conf_of(["start_server", "-s", "studies", "-c", "family", "sam_vit_b"]) == {"family": "sam_vit_b"}


@pytest.mark.parametrize(
    ("conf", "error", "message"),
    [
        ({"family": "nosuch"}, FamilyError, "no family 'nosuch'; known are"),
        ({"checkpoint": "nowhere.pt"}, OptionError, "there is no checkpoint nowhere.pt"),
    ],
)
def test_a_family_or_weights_that_are_not_there_are_refused(conf, error, message):
    with pytest.raises(error, match=message):
        check_weights(conf)


def test_weights_that_were_not_downloaded_are_named_with_the_command_that_does(monkeypatch, tmp_path):
    monkeypatch.setenv("MONAI_SAM_HOME", str(tmp_path))
    with pytest.raises(FamilyError, match="monai-sam download medsam"):
        check_weights({"family": "medsam"})


def test_the_shipped_model_is_there():
    check_weights({})
