"""The server listens to strangers only with accounts and TLS."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from monailabel_app.serve import choose, parse_arguments
from monailabel_app.server.access import TOKENS, SettingsError
from monailabel_app.server.launch import free_port, server_command
from monailabel_app.server.reach import BEHIND_PROXY, HOSTS, answered_hosts, check_reach
from monailabel_app.server.start import check_arguments

ACCOUNTS = {TOKENS: "anna annotate 0123456789abcdef0123"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1"])
def test_this_machine_needs_nothing(host):
    check_reach(host, has_tls=False, environment={})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "seg.hospital.example", ""])
def test_other_addresses_need_accounts_and_then_tls(host):
    with pytest.raises(SettingsError, match="give it accounts"):
        check_reach(host, has_tls=True, environment={})
    with pytest.raises(SettingsError, match="in the open"):
        check_reach(host, has_tls=False, environment=ACCOUNTS)
    with pytest.raises(SettingsError, match="in the open"):
        check_reach(host, has_tls=False, environment={**ACCOUNTS, BEHIND_PROXY: "no"})
    check_reach(host, has_tls=True, environment=ACCOUNTS)
    check_reach(host, has_tls=False, environment={**ACCOUNTS, BEHIND_PROXY: "true"})


def test_a_word_about_the_proxy_that_is_none_is_refused():
    with pytest.raises(SettingsError, match="true or false"):
        check_reach("0.0.0.0", has_tls=False, environment={**ACCOUNTS, BEHIND_PROXY: "perhaps"})


def test_the_command_line_of_monai_label_is_held_to_it_too(monkeypatch):
    monkeypatch.delenv(TOKENS, raising=False)
    start = ["start_server", "--app", "a", "--studies", "s"]
    check_arguments([*start, "--host", "127.0.0.1"])
    for host in ([], ["--host", "0.0.0.0"]):  # its default is every address
        with pytest.raises(SettingsError, match="give it accounts"):
            check_arguments([*start, *host])
    monkeypatch.setenv(TOKENS, ACCOUNTS[TOKENS])
    with pytest.raises(SettingsError, match="in the open"):
        check_arguments([*start, "--host", "0.0.0.0", "--ssl_certfile", "c"])
    check_arguments([*start, "--host", "0.0.0.0", "--ssl_certfile", "c", "--ssl_keyfile", "k"])


def test_serving_strangers_without_accounts_ends_with_one_sentence(repository, tmp_path):
    command = [str(repository / "scripts/serve.py"), str(tmp_path), "--host", "0.0.0.0", "--port", str(free_port())]
    environment = {name: value for name, value in os.environ.items() if name != TOKENS}
    run = subprocess.run(
        [sys.executable, *command],
        env=environment | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1 and "give it accounts" in run.stderr and "Traceback" not in run.stderr


def test_a_certificate_goes_along_with_its_full_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = server_command("/studies", port=1, host="0.0.0.0", tls=("c.pem", "k.pem"))
    assert command[command.index("--ssl_certfile") + 1] == str(tmp_path / "c.pem")
    assert command[command.index("--host") + 1] == "0.0.0.0"


def test_the_server_answers_to_its_own_names_alone():
    assert answered_hosts({}) == ["127.0.0.1", "localhost"]
    assert answered_hosts({HOSTS: "seg.hospital.example, seg"})[-2:] == ["seg.hospital.example", "seg"]
    for pattern in ("*", "*.example", "http://seg"):
        with pytest.raises(SettingsError, match="must be names"):
            answered_hosts({HOSTS: pattern})


def test_serve_hands_its_options_to_the_server(tmp_path, monkeypatch):
    tokens = tmp_path / "tokens"
    tokens.write_text(ACCOUNTS[TOKENS], encoding="utf-8")
    tokens.chmod(stat.S_IRUSR | stat.S_IWUSR)
    options = ["--tokens", str(tokens), "--behind-proxy", "--names", "seg.example", "--log-format", "json"]
    monkeypatch.setattr(sys, "argv", ["serve.py", str(tmp_path), *options])
    environment: dict[str, str] = {}
    choose(parse_arguments(), environment)
    assert environment == {
        "MONAI_SAM_TOKENS_FILE": str(tokens),
        "MONAI_SAM_BEHIND_PROXY": "true",
        "MONAI_SAM_HOSTS": "seg.example",
        "MONAI_SAM_LOG_FORMAT": "json",
    }
