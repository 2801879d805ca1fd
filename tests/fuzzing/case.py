"""One input of a fuzzing run: some files, and which of them is opened."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# A detached header or a pickle may name a file by its whole path. Where that lies differs from run to run, so cases
# hold these words, and the path is put in when the files are written.
CANARY = b"@CANARY@"
MARKER = b"@MARKER@"


@dataclass(frozen=True)
class Case:
    """Files by their path below the case's folder.

    Attributes:
        files: relative path to content.
        main: the relative path that is opened; "" opens the folder itself.
        trail: how the case came about, the seed's name first.
        folder: name of the case's folder, whose ending may matter (``.zarr``).
    """

    files: Mapping[str, bytes]
    main: str
    trail: tuple[str, ...] = ()
    folder: str = "case"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(content) for content in self.files.values())

    @property
    def digest(self) -> str:
        """Of names and contents."""
        whole = hashlib.sha256(f"{self.folder}/{self.main}".encode())
        for name in sorted(self.files):
            whole.update(name.encode() + b"\0" + self.files[name] + b"\0")
        return whole.hexdigest()[:16]

    def with_file(self, name: str, content: bytes, step: str) -> Case:
        """The case with one file replaced."""
        return Case({**self.files, name: content}, self.main, (*self.trail, step), self.folder)

    def to_json(self) -> str:
        """Text that ``from_json`` reads."""
        files = {name: base64.b64encode(content).decode() for name, content in self.files.items()}
        return json.dumps({"folder": self.folder, "main": self.main, "trail": self.trail, "files": files}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Case:
        """Read what ``to_json`` wrote."""
        content = json.loads(text)
        files = {name: base64.b64decode(data) for name, data in content["files"].items()}
        return cls(files, content["main"], tuple(content["trail"]), content["folder"])


@dataclass
class Bench:
    """A folder in which cases are laid out one after another, with a secret file beside them.

    The secret lies where ``../secret.raw`` and ``CANARY`` lead from a case's folder. Its access time is older than its
    content, so that any read moves it (``relatime``), also one by a library that Python does not see.
    """

    root: Path
    secret: Path = field(init=False)
    temporary: Path = field(init=False)
    _laid: tuple[str, list[str]] | None = field(default=None, init=False)  # folder, and the files in it

    SECRET = b"CANARY-of-the-fuzzer-" * 200

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.secret = self.root / "secret.raw"
        self.temporary = self.root / "tmp"
        for left in self.root.iterdir():  # by a child that died
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        self.temporary.mkdir()
        self.secret.write_bytes(self.SECRET)
        self.hide()

    def hide(self) -> None:
        """Set the access time of the secret back."""
        os.utime(self.secret, (0, 1))

    def was_read(self) -> bool:
        """Whether anyone has read the secret since ``hide``."""
        return os.stat(self.secret).st_atime != 0

    def lay(self, case: Case) -> str:
        """Write the files of a case and return the path to open."""
        folder = f"{self.root}/{case.folder}"
        self._clear()
        os.mkdir(folder)
        self._laid = folder, [f"{folder}/{name}" for name in case.files]
        for name, content in case.files.items():
            path = f"{folder}/{name}"
            if "/" in name:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb", buffering=0) as file:
                file.write(self._with_paths(content))
        return f"{folder}/{case.main}" if case.main else folder

    def _clear(self) -> None:
        """Remove the case before; file by file, which takes a third of the time of a walk through the folder."""
        if self._laid is None:
            return
        folder, files = self._laid
        try:
            for file in files:
                os.unlink(file)
            os.rmdir(folder)
        except OSError:  # folders in it, or something that the door left
            shutil.rmtree(folder, ignore_errors=True)

    def _with_paths(self, content: bytes) -> bytes:
        if b"@CANARY@" in content or b"@MARKER@" in content:
            content = content.replace(CANARY, str(self.secret).encode())
            content = content.replace(MARKER, str(self.temporary / "marker").encode())
        return content

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)
