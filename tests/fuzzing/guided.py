"""The same doors guided by coverage: atheris (libFuzzer for Python) keeps inputs that reach new lines of our checks.

Our own code is instrumented where it lies, so that comparisons with constants guide too; the libraries below are not.
atheris is no dependency: it exists for Linux and macOS alone, and ``pip install atheris`` brings a compiled libFuzzer.
"""

from __future__ import annotations

import inspect
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FunctionType, ModuleType

from fuzzing.batch import FuzzerError
from fuzzing.campaign import Campaign, replayed
from fuzzing.case import Bench, Case
from fuzzing.mutate_bytes import LONGEST
from fuzzing.watch import Watch

# What is guided by: the checks and readers of ours that the doors go through.
ROOMS = ("bundle.data", "bundle.prompts.prompts", "bundle.families.checkpoints", "monailabel_app.wire")
_SECONDS = 5  # of one execution, by the clock


def run_guided(campaign: Campaign, planned: int) -> int:
    """Run a format with atheris until ``planned`` executions are done; findings go into the campaign's last round.

    Args:
        campaign: must have run a round before, whose inputs are the first corpus here.
        planned: executions.

    Returns:
        Executions done.
    """
    counter = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
    corpus = campaign.folder / "guided"
    corpus.mkdir(parents=True, exist_ok=True)
    for case in (*campaign.target.starts, *campaign.kept):
        (corpus / case.digest).write_bytes(_content(case))
    deaths = 0
    while counter[0] < planned:
        before = counter[0]
        with tempfile.TemporaryDirectory() as found:
            child = os.fork()
            if not child:
                _fuzz(campaign, corpus, Path(found), planned - counter[0], deaths, counter)
            _, status = os.waitpid(child, 0)
            for path in sorted(Path(found).iterdir()):
                _judge(campaign, _case(campaign, path.read_bytes()))
        campaign.rounds[-1].guided += counter[0] - before
        campaign.save()
        deaths += 1
        if status and counter[0] == before:
            raise FuzzerError(f"atheris ended with status {status} before it ran anything")
    return counter[0]


def _judge(campaign: Campaign, case: Case) -> None:
    outcome = replayed(campaign.target, case, campaign.bench)
    if outcome.is_finding:
        campaign.note(case, outcome)


def _content(case: Case) -> bytes:
    return case.files[case.main or sorted(case.files)[0]]


def _case(campaign: Campaign, content: bytes) -> Case:
    """The first seed with another main file."""
    first = campaign.target.starts[0]
    name = first.main or sorted(first.files)[0]
    return Case({**first.files, name: content}, first.main, ("guided",), first.folder)


def _fuzz(campaign: Campaign, corpus: Path, found: Path, runs: int, seed: int, counter: memoryview) -> None:
    """In the child: never returns."""
    import atheris

    for function in _functions():
        atheris.instrument_func(function)
    target = campaign.target
    first = target.starts[0]
    mutator = target.mutator_of(first.main or sorted(first.files)[0])
    watch = Watch(target.door, Bench(campaign.bench))
    for case in target.seeds:
        watch.warm(case)
    seen: set[str] = set()

    def one(data: bytes) -> None:
        counter[0] += 1
        outcome = watch.run(_case(campaign, data))
        if outcome.is_finding and outcome.signature not in seen:
            seen.add(outcome.signature)
            (found / f"finding-{len(seen)}").write_bytes(data)

    def mutated(data: bytes, longest: int, number: int) -> bytes:
        rng = Random(number)
        if rng.random() < 0.5:
            return atheris.Mutate(data, len(data) + 64 if len(data) + 64 < longest else longest)
        try:
            return mutator(rng, data)[:longest]
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError):
            return data

    options = [f"-runs={runs}", f"-seed={seed + 1}", f"-artifact_prefix={found}/", f"-timeout={_SECONDS}"]
    options += [f"-max_len={LONGEST}", "-rss_limit_mb=4000", "-print_final_stats=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=mutated)
    atheris.Fuzz()
    os._exit(0)


def _functions() -> Iterator[FunctionType]:
    """Functions and methods of ours that are loaded."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith(ROOMS) and isinstance(module, ModuleType):
            for value in vars(module).values():
                members = vars(value).values() if inspect.isclass(value) else (value,)
                for member in members:
                    if isinstance(member, FunctionType) and member.__module__ == name:
                        yield member
