"""A smaller input that does the same wrong thing: what a person looks at, and what becomes a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fuzzing.campaign import replayed
from fuzzing.case import Case
from fuzzing.targets import Target

TRIES = 600  # processes; each costs some hundredths of a second


def minimised(target: Target, case: Case, bench: Path) -> Case:
    """Take pieces away, or make them plain, as long as the verdict stays.

    Args:
        target: whose door does something wrong with the case.
        case: the input.
        bench: where cases are laid out.
    """
    wanted = replayed(target, case, bench).verdict
    left = TRIES
    for name in sorted(case.files):
        part = 1 << max(len(case.files[name]) - 1, 1).bit_length()
        while part and left > 0:
            smaller = next(
                (
                    candidate
                    for candidate in _without_parts(case, name, part)
                    if (left := left - 1) > 0 and replayed(target, candidate, bench).verdict == wanted
                ),
                None,
            )
            case = smaller or case
            part = part if smaller else part // 2
    return case


def _without_parts(case: Case, name: str, part: int) -> Iterator[Case]:
    """The case with one part of a file gone, or one of its lines."""
    content = case.files[name]
    trail = (*case.trail, "minimised") if "minimised" not in case.trail else case.trail
    for start in range(0, len(content), part):
        shorter = content[:start] + content[start + part :]
        yield Case({**case.files, name: shorter}, case.main, trail, case.folder)
