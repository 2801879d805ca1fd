"""Fetching the published weights of a family: resumable, checked before the file appears under its name.

The registry itself is the ``checkpoint`` section of ``configs/families/*.json``: file, url, size, the published hash
(sha256 or md5), licence and citation, and under ``sources`` where each of them was published, or that it was not. Where
no sha256 was published, the first download pins the one it got in ``<file>.sha256``, and every later one must agree
with it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import gdown
import requests
from gdown.exceptions import DownloadError as DriveError
from tqdm import tqdm

from bundle.errors import DownloadError
from bundle.families.family import Family, list_families, load_family
from bundle.files import sha256_of, write_text
from bundle.root import downloads_root

_BLOCK = 1 << 16  # what a broken connection can lose
_TIMEOUT = (10, 60)  # seconds to connect, and between two blocks


SOURCES = ("weights", "size", "hash", "licence")  # what ``sources`` says the origin of


def registered() -> list[Family]:
    """The families that have weights, sorted by name: those that can be fetched, and the shipped ones."""
    return [family for family in map(load_family, list_families()) if family.checkpoint]


def published() -> list[Family]:
    """The families whose weights can be fetched, sorted by name; the shipped ones need not be."""
    return [f for f in registered() if f.checkpoint.get("url") or f.checkpoint.get("page")]


def fetch_weights(family: Family, *, folder: Path | None = None, progress: bool = True) -> Path:
    """Download a family's weights, or find them already there.

    A download that broke off goes on where it stopped. ``HTTPS_PROXY`` and its relatives are respected.

    Args:
        family: whose ``checkpoint`` section says what to fetch.
        folder: what ``checkpoint["file"]`` is relative to; by default ``bundle.root.downloads_root()``.
        progress: show a progress bar.

    Raises:
        DownloadError: without internet or address (saying where to put the file by hand), or when the file is not the
            published one.
    """
    if not family.checkpoint:
        raise DownloadError(f"no weights of {family.name} were published; its training starts from {family.start}")
    target = _target(family, folder)
    if target.is_file():
        check_weights(target, family)
        return target
    url = family.checkpoint.get("url")
    if not url:
        page = family.checkpoint.get("page")
        raise DownloadError(
            f"{target.name} has no address{f'; see {page}' if page else ''} and put the file at {target}"
        )
    partial = target.with_name(target.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        if url.startswith("https://drive.google.com/"):
            gdown.download(url, str(partial), resume=True, quiet=not progress)
        else:
            _download(url, partial, family.checkpoint.get("size"), progress=progress)
    except (requests.RequestException, DriveError) as error:
        raise DownloadError(
            f"could not fetch {url} ({error}); behind a proxy set HTTPS_PROXY, without internet fetch it elsewhere and "
            f"put the file at {target}"
        ) from error
    try:
        check_weights(partial, family, pinned=_pin_of(target))
    except DownloadError:
        partial.unlink()
        raise
    if not family.checkpoint.get("sha256"):
        digest = sha256_of(partial)
        write_text(_pin_of(target), f"{digest}  {target.name}\n")
    os.replace(partial, target)
    return target


def check_weights(path: Path, family: Family, *, pinned: Path | None = None) -> None:
    """Compare a file with the published size and hash, and with the hash pinned at the first download.

    Args:
        path: the weights.
        family: whose ``checkpoint`` section says what they must be.
        pinned: the ``.sha256`` file; beside the weights by default.

    Raises:
        DownloadError: naming what differs.
    """
    expected = family.checkpoint or {}
    pinned = pinned or _pin_of(path)
    size = path.stat().st_size
    if expected.get("size") and size != expected["size"]:
        raise DownloadError(f"{path.name} must have {expected['size']} bytes, got {size}; delete it and fetch it again")
    hashes = {name: expected[name] for name in ("sha256", "md5") if expected.get(name)}
    if "sha256" not in hashes and pinned.is_file():
        hashes["sha256"] = pinned.read_text(encoding="utf-8").split()[0]
    for name, value in hashes.items():
        got = _digest(path, name)
        if got != value:
            raise DownloadError(f"{path.name} must have the {name} {value}, got {got}; delete it and fetch it again")


def hash_status(family: Family, *, folder: Path | None = None) -> str:
    """Which hash guards a family's weights: ``sha256``, ``md5``, ``pinned``, or ``at first download``."""
    checkpoint = family.checkpoint or {}
    for name in ("sha256", "md5"):
        if checkpoint.get(name):
            return name
    return "pinned" if _pin_of(_target(family, folder)).is_file() else "at first download"


def _target(family: Family, folder: Path | None) -> Path:
    return (folder or downloads_root()) / family.checkpoint["file"]


def _pin_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _digest(path: Path, name: str) -> str:
    if name == "sha256":
        return sha256_of(path)
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _download(url: str, partial: Path, size: int | None, *, progress: bool) -> None:
    """Append what is missing of a file; start over when the server cannot resume."""
    done = partial.stat().st_size if partial.exists() else 0
    if size and done == size:
        return
    headers = {"Range": f"bytes={done}-"} if done else {}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing; the hash check decides whether it is the right file
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        done = done if resumed else 0
        total = done + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else size
        bar = tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=partial.stem, disable=not progress)
        with bar, open(partial, "ab" if resumed else "wb") as file:
            for block in answer.iter_content(_BLOCK):
                file.write(block)
                bar.update(len(block))
    if total and partial.stat().st_size < total:
        raise requests.ConnectionError("the connection broke off; run it again to go on")
