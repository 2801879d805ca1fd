"""What one execution did: opened, refused with a sentence, or something that a reader must not do."""

from __future__ import annotations

import gc
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.errors import MonaiSamError
from fuzzing.case import Bench, Case

# Growth of the resident memory that an input may cost: what the libraries take once, and what unpacking may give
# (deflate at most 1030 times its input; these files have some kB).
GROWTH_LIMIT = 64 << 20
ADDRESS_LIMIT = 1 << 30  # on top of what the process has before it reads anything
# What the allocators below us say when the limit has stopped them.
_NO_MEMORY = re.compile(r"bad_alloc|[Uu]nable to allocate|[Ff]ailed to allocate|not enough memory|Insufficient memory")
# Audit events of Python (PEP 578) that no reader has a reason for.
_FORBIDDEN = {"os.system", "os.exec", "os.remove", "os.rename", "os.rmdir", "os.chmod", "shutil.rmtree", "shutil.move"}
_FORBIDDEN |= {"socket.connect", "socket.bind", "ctypes.dlopen", "os.symlink", "os.link", "os.putenv", "pty.spawn"}
_STARTS = {"subprocess.Popen", "os.posix_spawn"}
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """What one execution came to.

    Attributes:
        verdict: "opened" and "refused" are right, every other one is a finding.
        signature: the same for executions that went the same way; numbers and names in it are replaced.
        detail: for a person.
    """

    verdict: str
    signature: str
    detail: str = ""

    @property
    def is_finding(self) -> bool:
        """Whether the execution did what a reader must not do."""
        return self.verdict not in ("opened", "refused")


class Watch:
    """Runs a door on cases and judges each execution; one per process, since an audit hook stays for good.

    Args:
        door: opens a path; returns what it read or raises MonaiSamError.
        bench: where cases are laid out.
    """

    def __init__(self, door: Callable[[str], object], bench: Bench) -> None:
        self.door, self.bench = door, bench
        self._seen: list[str] = []
        self._armed = False
        self._allowed = tuple(
            f"{folder}/" for folder in {sys.prefix, sys.base_prefix, str(_ROOT), "/proc", "/sys", str(bench.temporary)}
        )
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY)
        sys.addaudithook(self._audit)

    def warm(self, case: Case) -> None:
        """Open a right file without judging it; ``run`` does that, once everything is loaded."""
        with suppress(Exception):
            self.door(self.bench.lay(case))
        self._take_left()

    def run(self, case: Case) -> Outcome:
        """Lay out one case, open it and judge."""
        path = self.bench.lay(case)
        self._home = f"{self.bench.root}/{case.folder}"
        self._seen.clear()
        before = self._memory()
        os.write(self._reset, b"5")  # the peak starts anew
        result = error = None
        self._armed = True
        try:
            result = self.door(path)
        except MonaiSamError as raised:
            error = raised
        except RecursionError as raised:
            error = raised.with_traceback(None)
        except Exception as raised:
            error = raised
        self._armed = False
        peak = self._grown(before)
        outcome = self._judge(case, result, error, peak)
        del result
        if error is not None:
            del error
            gc.collect(0)
        return outcome

    def _judge(self, case: Case, result: object, error: Exception | None, peak: int) -> Outcome:
        if self._seen:
            return Outcome("outside", f"outside {_plain(self._seen[0])}", "; ".join(self._seen[:5]))
        if self.bench.was_read() or _shows_secret(result, error):
            self.bench.hide()
            return Outcome("canary", f"canary {_where(error)}", "the secret file beside the case was read")
        if left := self._take_left():
            return Outcome(
                "leftover",
                f"leftover {re.sub('[a-z0-9_]{8}$', '?', left[0])}",
                f"left in the temporary folder: {left[:5]}",
            )
        if lacked := lacked_memory(error):
            return Outcome("memory", f"memory limit {_where(lacked)}", _told(lacked))
        if peak > GROWTH_LIMIT + 40 * case.size:
            where = _where(error) or type(result).__name__
            return Outcome("memory", f"memory growth {where}", f"{peak >> 20} MB for {case.size} bytes; {_told(error)}")
        if error is None:
            return Outcome("opened", f"opened {_form(result)}")
        if isinstance(error, MonaiSamError):
            return Outcome("refused", f"{type(error).__name__} {_plain(str(error))}")
        return Outcome("traceback", f"{type(error).__name__} {_where(error)}", _told(error))

    def _take_left(self) -> list[str]:
        """The names of what lies in the temporary folder, which is empty afterwards."""
        left = os.listdir(self.bench.temporary)
        for name in left:
            _remove(self.bench.temporary / name)
        return left

    def _memory(self) -> tuple[int, int, int]:
        """Resident memory, its peak, and the part of it that no file backs, in bytes."""
        text = os.pread(self._status, 4096, 0)
        return _kilobytes(text, b"VmRSS:"), _kilobytes(text, b"VmHWM:"), _kilobytes(text, b"RssAnon:")

    def _grown(self, before: tuple[int, int, int]) -> int:
        """Bytes that the memory grew by: at its peak, or what is held now, since a kernel may take pages of files."""
        _, peak, own = self._memory()
        return max(peak - before[0], own - before[2])

    def _audit(self, event: str, arguments: tuple) -> None:
        if not self._armed:
            return
        if event == "open":
            self._note_open(*arguments)
        elif event in _FORBIDDEN or (event in _STARTS and arguments[0] not in (sys.executable, None)):
            if event.startswith(("os.", "shutil.")) and _whole_path(arguments).startswith(str(self.bench.temporary)):
                return  # a library's own temporary files
            self._seen.append(f"{event} {arguments!r:.200}")

    def _note_open(self, path: object, mode: str | None, flags: int) -> None:
        if not isinstance(path, (str, bytes)):
            return
        path = os.path.abspath(os.fsdecode(path))
        writes = flags & (os.O_WRONLY | os.O_RDWR) if isinstance(flags, int) else mode and set(mode) & set("wax+")
        if path.startswith(self._home) and not writes:
            return
        if path.startswith(self._allowed) or path in ("/dev/null", "/dev/urandom"):
            return
        self._seen.append(f"open {path} {mode or ''}")


def _whole_path(arguments: tuple) -> str:
    """The path of an event; it may lie in a folder that is given as a descriptor behind it."""
    path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else ""
    if len(arguments) > 1 and isinstance(arguments[1], int) and arguments[1] >= 0:
        return os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), path)
    return os.path.abspath(path)


def _kilobytes(text: bytes, name: bytes) -> int:
    start = text.index(name) + len(name)
    return int(text[start : text.index(b"kB", start)]) << 10


def _shows_secret(result: object, error: BaseException | None) -> bool:
    if error is not None:
        return b"CANARY-of" in str(error).encode("utf-8", "replace")
    array = getattr(result, "array", None)
    return isinstance(array, np.ndarray) and b"CANARY-of" in array.tobytes("A")


def lacked_memory(error: BaseException | None) -> BaseException | None:
    """The link of the chain that says so; the first cause says most about where."""
    links = reversed(_chain(error))
    return next((link for link in links if isinstance(link, MemoryError) or _NO_MEMORY.search(str(link))), None)


def _chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


def is_ours(file: str) -> bool:
    """Whether a source file is the package's or the app's, not a library's (whose folder may lie in ours) or a test."""
    return file.startswith(str(_ROOT)) and "/site-packages/" not in file and not file.startswith(f"{_ROOT}/tests/")


def _where(error: BaseException | None) -> str:
    """The innermost line of ours that an error went through, and the innermost of all."""
    frames = [frame for link in _chain(error)[:1] for frame in traceback.extract_tb(link.__traceback__)]
    if not frames:
        return type(error).__name__ if error else ""
    ours = [frame for frame in frames if is_ours(frame.filename)]
    shown = [f"{Path(frame.filename).name}:{frame.name}" for frame in (*ours[-1:], frames[-1])]
    return " < ".join(dict.fromkeys(shown))


def _told(error: BaseException | None) -> str:
    if error is None:
        return ""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-6))[-2500:]


def _form(result: object) -> str:
    array = getattr(result, "array", None)
    return f"{array.dtype} {array.ndim}" if isinstance(array, np.ndarray) else type(result).__name__


def _plain(text: str) -> str:
    """A message without what differs from input to input: names, values, bytes that cannot be printed."""
    text = re.sub(r"/[^\s:,;)]+", "/", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"|b'.*'|\[[^\]]*\]", "_", text)
    text = re.sub(r"[-+]?\d[\d.e+-]*|\b(nan|inf)\b|0x[0-9a-f]+", "#", text)
    return re.sub(r"[^ -~]+", "?", text)[:100]


def _remove(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            _remove(child)
        path.rmdir()
    else:
        path.unlink()
