"""A forked child that runs a batch of cases in one process, and the case that it died of.

The readers are imported once, by the parent; a child costs a fork. It writes into shared memory which case it is at,
so that the parent knows the culprit when the child is gone.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import mmap
import os
import re
import resource
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.case import Bench, Case
from fuzzing.watch import ADDRESS_LIMIT, Outcome, Watch, is_ours

CPU_SECONDS = 1.0  # of one execution, counted by the kernel: other work on the machine does not matter
# Time may grow with the file, but not faster: pydicom takes 60 us for an empty item of eight bytes, and reads it twice.
CPU_SECONDS_A_BYTE = 15e-6
WALL_SECONDS = 60.0  # of one that sleeps, or waits for a process of its own
_BROKEN = 70  # exit status of a child in which the fuzzer itself failed
# Places in the shared memory.
_AT, _SINCE, _DONE, _OPENED, _REFUSED = range(5)
_WARMING = -1  # no case yet


class FuzzerError(RuntimeError):
    """The instrument is broken, not what it looks at."""


@dataclass
class Batch:
    """One child and what became of it.

    Attributes:
        cases: makes the case of a number; called in the child, and once more in the parent for a culprit.
        numbers: of the cases.
        door: what is called with a path.
        folder: where the cases are laid out.
        warming: right files that the child opens first, unwatched: what a reader imports, finds and prepares at its
            first use is not the doing of the first case.
        cpu_seconds: that one case may take, and `CPU_SECONDS_A_BYTE` for each of its bytes.
        known: signatures that need not be told again.
        messages: (number, outcome) of findings and of signatures that were not known.
        died: the case that the child died of, and the outcome; None if it came to its end.
    """

    cases: Callable[[int], Case]
    numbers: Sequence[int]
    door: Callable[[str], object]
    folder: Path
    known: frozenset[str] = frozenset()
    warming: Sequence[Case] = ()
    cpu_seconds: float = CPU_SECONDS
    messages: list[tuple[int, Outcome]] = field(default_factory=list, init=False)
    died: tuple[int, Outcome] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._slot = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self._slot[_AT] = _WARMING
        self._slot[_SINCE] = time.monotonic_ns()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._output = self.folder / "output"
        self._output.write_bytes(b"")
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(reader)
            self._run(writer)
        os.close(writer)
        self._reader, self._text = reader, b""

    # ---- the parent's side ------------------------------------------------------------------------------------------

    @property
    def executions(self) -> int:
        """How many cases have been run, the deadly one included."""
        return self._slot[_DONE] + (self.died is not None)

    @property
    def opened(self) -> int:
        """How many the door opened."""
        return self._slot[_OPENED]

    @property
    def refused(self) -> int:
        """How many it refused with a sentence."""
        return self._slot[_REFUSED]

    def wait(self) -> Batch:
        """Let the child come to its end, whatever that is."""
        while not self.poll(1.0):
            pass
        return self

    def poll(self, seconds: float) -> bool:
        """Wait for a while; True once the child is gone and everything it said has been read."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        if ready:
            data = os.read(self._reader, 1 << 16)
            self._text += data
            if not data:
                self._finish(stuck=False)
                return True
        elif time.monotonic_ns() - self._slot[_SINCE] > WALL_SECONDS * 1e9:
            os.killpg(self.pid, signal.SIGKILL)
            self._finish(stuck=True)
            return True
        return False

    def stop(self) -> None:
        """End the child early."""
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._reader)

    def _finish(self, *, stuck: bool) -> None:
        _, status = os.waitpid(self.pid, 0)
        os.close(self._reader)
        for line in self._text.splitlines():
            if line.endswith(b"}"):  # the last one may be cut off
                told = json.loads(line)
                self.messages.append((told.pop("number"), Outcome(**told)))
        output = self._output.read_bytes()[-6000:].decode("utf-8", "replace")
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _BROKEN:
            raise FuzzerError(f"the fuzzer failed:\n{output}")
        if self._slot[_AT] == _WARMING:
            raise FuzzerError(f"a right file ended the process (status {status}):\n{output}")
        number = self.numbers[self._slot[_AT]]
        self.died = (number, _outcome_of_death(status, output, stuck=stuck, cpu_seconds=self.cpu_seconds))

    # ---- the child's side -------------------------------------------------------------------------------------------

    def _run(self, writer: int) -> None:
        try:
            self._prepare()
            watch = Watch(self.door, Bench(self.folder))
            os.chdir(watch.bench.temporary)
            for case in self.warming:
                watch.warm(case)
            told: dict[str, int] = {}
            for place, number in enumerate(self.numbers):
                case = self.cases(number)
                self._slot[_AT], self._slot[_SINCE] = place, time.monotonic_ns()
                signal.setitimer(signal.ITIMER_PROF, self.cpu_seconds + CPU_SECONDS_A_BYTE * case.size)
                outcome = watch.run(case)
                signal.setitimer(signal.ITIMER_PROF, 0)
                self._slot[_DONE] += 1
                self._slot[_OPENED] += outcome.verdict == "opened"
                self._slot[_REFUSED] += outcome.verdict == "refused"
                is_new = outcome.signature not in self.known and outcome.signature not in told
                told[outcome.signature] = told.get(outcome.signature, 0) + 1
                if is_new or outcome.is_finding:
                    os.write(writer, json.dumps({"number": number, **vars(outcome)}).encode() + b"\n")
                if self._file.tell() > 1 << 16:
                    self._file.truncate(0)
        except BaseException:
            self._file.write(traceback.format_exc().encode())
            os._exit(_BROKEN)
        os._exit(0)

    def _prepare(self) -> None:
        os.setpgid(0, 0)
        self._file = open(self._output, "ab", buffering=0)  # noqa: SIM115 - the child's output until it ends
        os.dup2(self._file.fileno(), 1)
        os.dup2(self._file.fileno(), 2)
        faulthandler.enable(self._file, all_threads=False)
        faulthandler.register(signal.SIGPROF, self._file, all_threads=False, chain=True)  # says where, and dies
        os.environ["TMPDIR"] = str(self.folder / "tmp")
        import tempfile

        tempfile.tempdir = None
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        gc.freeze()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * mmap.PAGESIZE + ADDRESS_LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _outcome_of_death(status: int, output: str, *, stuck: bool, cpu_seconds: float) -> Outcome:
    frames = re.findall(r'File "([^"]*)", line \d+ in (\w+)', output)  # the innermost first
    names = [f"{Path(file).name}:{name}" for file, name in frames if "/tests/fuzzing/" not in file]
    ours = [f"{Path(file).name}:{name}" for file, name in frames if is_ours(file)]
    where = " < ".join(dict.fromkeys(names[:2]))
    looping = next(iter(ours), where)  # where a loop was interrupted says little, who called it says more
    if stuck:
        return Outcome("hang", f"hang, waiting {looping}", f"no answer within {WALL_SECONDS:.0f} s\n{output[-2000:]}")
    if not os.WIFSIGNALED(status):
        return Outcome("crash", f"exit {os.WEXITSTATUS(status)} {where}", output[-2500:])
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGPROF":
        return Outcome("hang", f"hang {looping or where}", f"more than {cpu_seconds:g} s of a core\n{output[-2000:]}")
    said = re.findall(r"^(?!Fatal|Current|  File|<no|Extension|Stack)(\w[^\n]{5,80})$", output, re.MULTILINE)
    said = [line for line in said if re.search(r"free|malloc|corrupt|terminate|overflow|smash", line)]
    reason = re.sub(r"0x[0-9a-f]+|\d+", "#", said[-1]) if said else ""
    return Outcome("crash", " ".join(f"{name} {where} {reason}".split()), output[-2500:])
