"""From where the server can be reached, and what that asks for: accounts, TLS, and the names it answers to."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from monailabel_app.server.access import TOKENS, TOKENS_FILE, Accounts, SettingsError

HOST = "127.0.0.1"  # of this machine alone
HOSTS = "MONAI_SAM_HOSTS"  # names that the server answers to, with commas between them
BEHIND_PROXY = "MONAI_SAM_BEHIND_PROXY"  # "true": a proxy in front speaks TLS, and nobody else reaches this port
_OWN_NAMES = ("127.0.0.1", "localhost")
_YES = ("true", "1", "yes", "on")
_NO = ("", "false", "0", "no", "off", "f", "n")


def check_reach(host: str, *, has_tls: bool, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to listen where strangers could ask, or listen to what is asked.

    Args:
        host: the address that the server binds to.
        has_tls: whether it has a certificate and its key.
        environment: where the accounts are, and whether a proxy speaks TLS.

    Raises:
        SettingsError: another address than this machine's own, without accounts or without TLS.
    """
    check_old_login_is_off(environment.get("MONAI_LABEL_AUTH_ENABLE", ""))
    accounts = Accounts.from_environment(environment)
    if is_loopback(host):
        return
    if accounts is None:
        raise SettingsError(
            f"the server would answer everybody who reaches {host}; give it accounts (--tokens FILE, {TOKENS_FILE} or "
            f"{TOKENS}), or leave --host out: then it answers this machine only"
        )
    if not has_tls and not is_behind_proxy(environment):
        raise SettingsError(
            "tokens and images would cross the network in the open; give a certificate (--tls-certificate, --tls-key), "
            f"or say that a proxy before {host} speaks TLS (--behind-proxy, {BEHIND_PROXY}=true)"
        )


def is_behind_proxy(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a proxy speaks TLS for the server.

    Raises:
        SettingsError: the variable is neither true nor false.
    """
    text = environment.get(BEHIND_PROXY, "").strip().lower()
    if text not in (*_YES, *_NO):
        raise SettingsError(f"{BEHIND_PROXY} must be true or false, got {text!r}")
    return text in _YES


def check_old_login_is_off(wanted: bool | str) -> None:
    """Refuse MONAI Label's own login: in 0.8.5 nobody could log in, and half of the routes would stay open.

    Args:
        wanted: the setting ``MONAI_LABEL_AUTH_ENABLE``.

    Raises:
        SettingsError: it asks for one.
    """
    if str(wanted).strip().lower() not in _NO:
        raise SettingsError(
            "MONAI_LABEL_AUTH_ENABLE asks for MONAI Label's login, which this server does not use; it would protect "
            f"nothing. Unset it, and give accounts by {TOKENS_FILE} (docs/deploy.md)"
        )


def answered_hosts(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The names of the server in a request's ``Host``: a page elsewhere could lead its own name here otherwise.

    Raises:
        SettingsError: a pattern instead of names.
    """
    names = [name.strip() for name in environment.get(HOSTS, "").split(",") if name.strip()]
    if any("*" in name or "/" in name for name in names):
        raise SettingsError(f"{HOSTS} must be names with commas between them, as seg.hospital.example, got {names}")
    return [*_OWN_NAMES, *names]


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
