"""Rounds over a format, kept on disk so that they can be stopped, continued, and run again after a fix."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bundle.files import write_atomically
from fuzzing.case import Case
from fuzzing.code import code_behind
from fuzzing.targets import Target
from fuzzing.watch import Outcome

BATCH = 1000  # cases a child runs: a fork, and opening the right files first, costs as much as some tens of them
EXAMPLES = 3  # inputs kept of one finding
KEPT = 600  # inputs kept because they went a way of their own
LOOKED_BACK = 25  # cases before a death that may have caused it: a damaged heap falls over later


@dataclass
class Round:
    """One pass over a format at one state of the code."""

    number: int
    planned: int
    code: str
    executions: int = 0
    opened: int = 0
    refused: int = 0
    guided: int = 0  # executions on top of these, by ``guided``
    seconds: float = 0.0
    findings: dict[str, int] = field(default_factory=dict)  # signature -> how often

    @property
    def is_complete(self) -> bool:
        """Whether all planned executions were run."""
        return self.executions >= self.planned

    @property
    def is_quiet(self) -> bool:
        """Whether it came to its end without a finding."""
        return self.is_complete and not self.findings


@dataclass
class Finding:
    """A way of being wrong, with the inputs that showed it.

    Attributes:
        verdict: of ``Outcome``.
        detail: of the first one.
        first: number of the round that found it.
        last: number of the round that saw it last.
        count: executions.
        examples: digests of the inputs kept, smallest first.
        alone: whether the input does it in a process of its own; otherwise an earlier one had its part.
    """

    verdict: str
    detail: str
    first: int
    last: int
    count: int = 0
    examples: list[str] = field(default_factory=list)
    alone: bool = True


class Campaign:
    """The rounds of one format.

    Args:
        target: the format.
        folder: where its state is kept.
        bench: where cases are laid out; memory is best.
        watched: is told how many executions were just made; first, how many a round that goes on has behind it.
    """

    def __init__(
        self, target: Target, folder: Path, bench: Path, *, watched: Callable[[int], object] = lambda count: None
    ) -> None:
        self.target, self.folder, self.bench, self.watched = target, folder, bench, watched
        self.rounds: list[Round] = []
        self.findings: dict[str, Finding] = {}
        self.signatures: set[str] = set()
        self.kept: list[Case] = []
        self._load()
        target.starts  # noqa: B018 - made once, before the forks

    @property
    def executions(self) -> int:
        """Over all rounds."""
        return sum(one.executions + one.guided for one in self.rounds)

    @property
    def open_findings(self) -> dict[str, Finding]:
        """Those that the last round saw."""
        last = self.rounds[-1].findings if self.rounds else {}
        return {signature: finding for signature, finding in self.findings.items() if signature in last}

    def run(self, planned: int, *, code: str | None = None, seconds: float | None = None) -> Round:
        """Run the next round, or go on with one that was stopped.

        Args:
            planned: executions.
            code: what the code behind the door is; by default ``code_behind``.
            seconds: stop after this time; the round then goes on at the next call.
        """
        code = code_behind(self.target.name) if code is None else code
        current = self.rounds[-1] if self.rounds else None
        if current is None or current.is_complete or current.code != code:
            current = Round(len(self.rounds) + 1, planned, code)
            self.rounds.append(current)
            self._again(current)
        self.watched(current.executions)
        current.planned = max(planned, current.executions)
        end = time.monotonic() + (float("inf") if seconds is None else seconds)
        saved = time.monotonic()
        while not current.is_complete and time.monotonic() < end:
            numbers = range(current.executions, min(current.planned, current.executions + BATCH))
            self._batch(current, list(numbers))
            if time.monotonic() - saved > 10:
                self.save()
                saved = time.monotonic()
        self.save()
        return current

    def _again(self, current: Round) -> None:
        """Run the inputs of all earlier findings: each round begins with what went wrong before."""
        for signature, finding in list(self.findings.items()):
            for digest in finding.examples:
                case = Case.from_json((self._of(signature) / f"{digest}.json").read_text())
                outcome = self._alone(case)
                if outcome.is_finding:
                    self._record(current, case, outcome)

    def _batch(self, current: Round, numbers: list[int]) -> None:
        kept = tuple(self.kept)
        seed = f"round {current.number}"

        def make(number: int) -> Case:
            return self.target.case(number, seed=seed, kept=kept)

        start = time.monotonic()
        while numbers:
            known = frozenset(self.signatures)
            batch = self.target.batch(make, numbers, self.bench, known=known).wait()
            for number, outcome in batch.messages:
                self._take(current, make(number), outcome)
            current.executions += batch.executions
            current.opened += batch.opened
            current.refused += batch.refused
            self.watched(batch.executions)
            if not batch.died:
                break
            number, outcome = batch.died
            at = numbers.index(number)
            self._take_death(current, make, numbers[: at + 1], outcome)
            numbers = numbers[at + 1 :]
        current.seconds += time.monotonic() - start

    def _take(self, current: Round, case: Case, outcome: Outcome) -> None:
        if outcome.is_finding:
            self._record(current, case, outcome)
        elif outcome.signature not in self.signatures and len(self.kept) < KEPT:
            self._keep(case)
        self.signatures.add(outcome.signature)

    def _take_death(self, current: Round, make: Callable[[int], Case], numbers: list[int], outcome: Outcome) -> None:
        """Find the input that is to blame for the end of a child; the last one, unless it lives alone."""
        if current.findings.get(outcome.signature, 0) >= EXAMPLES:
            self._record(current, make(numbers[-1]), outcome)
            return
        for number in reversed(numbers[-LOOKED_BACK:]):
            alone = self._alone(make(number))
            if alone.is_finding:
                self._record(current, make(number), alone)
                return
        self._record(current, make(numbers[-1]), outcome, alone=False)

    def _alone(self, case: Case) -> Outcome:
        return replayed(self.target, case, self.bench)

    def _record(self, current: Round, case: Case, outcome: Outcome, *, alone: bool = True) -> None:
        fresh = Finding(outcome.verdict, outcome.detail, current.number, current.number, alone=alone)
        finding = self.findings.setdefault(outcome.signature, fresh)
        finding.count += 1
        finding.last = current.number
        current.findings[outcome.signature] = current.findings.get(outcome.signature, 0) + 1
        # Those of earlier rounds may be mended, so they take no place from new ones.
        if case.digest in finding.examples or current.findings[outcome.signature] > EXAMPLES:
            return
        finding.examples.append(case.digest)
        place = self._of(outcome.signature)
        _write(place / f"{case.digest}.json", case.to_json())
        _write(place / "finding.txt", f"{outcome.verdict}: {outcome.signature}\n\n{outcome.detail}\n")

    def note(self, case: Case, outcome: Outcome) -> None:
        """Add a finding that was made outside of ``run`` to the last round."""
        self._record(self.rounds[-1], case, outcome)

    def _keep(self, case: Case) -> None:
        self.kept.append(case)
        _write(self.folder / "kept" / f"{len(self.kept):04d}.json", case.to_json())

    # ---- the disk ---------------------------------------------------------------------------------------------------

    def _of(self, signature: str) -> Path:
        verdict = self.findings[signature].verdict
        return self.folder / "findings" / f"{verdict}-{hashlib.sha256(signature.encode()).hexdigest()[:8]}"

    def place_of(self, signature: str) -> Path:
        """The folder with the inputs of a finding."""
        return self._of(signature)

    def save(self) -> None:
        """Write the state; a killed run goes on from here."""
        state = {
            "rounds": [asdict(one) for one in self.rounds],
            "findings": {signature: asdict(finding) for signature, finding in self.findings.items()},
            "signatures": sorted(self.signatures),
        }
        _write(self.folder / "state.json", json.dumps(state, indent=1))

    def _load(self) -> None:
        path = self.folder / "state.json"
        if path.is_file():
            state = json.loads(path.read_text())
            for one in state["rounds"]:
                one["code"] = one.pop("commit", one.get("code"))  # a state from before says the commit
            self.rounds = [Round(**one) for one in state["rounds"]]
            self.findings = {signature: Finding(**finding) for signature, finding in state["findings"].items()}
            self.signatures = set(state["signatures"])
        kept = sorted((self.folder / "kept").glob("*.json")) if (self.folder / "kept").is_dir() else []
        self.kept = [Case.from_json(path.read_text()) for path in kept]


def replayed(target: Target, case: Case, bench: Path) -> Outcome:
    """What one stored input does now, in a process of its own."""
    batch = target.batch(lambda _: case, [0], bench).wait()
    return batch.died[1] if batch.died else batch.messages[0][1]


def campaigns_in(state: Path, targets: dict[str, Target], bench: Path) -> Iterator[Campaign]:
    """The campaigns that a state folder holds."""
    for name, target in targets.items():
        if (state / name / "state.json").is_file():
            yield Campaign(target, state / name, bench)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda partial: Path(partial).write_text(text))
