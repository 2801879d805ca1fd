"""Which image to label next: pure functions of what is known about the images.

Sources of the rules: random with more of the foreground is the baseline that no published strategy but one reliably
beats (nnActive, Lueth et al. 2025); that one is ClaSP PE (Lueth et al. 2026): class-stratified predictive entropy with
power noise (Kirsch et al. 2023) that decays; k-center greedy is Sener and Savarese 2018.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bundle.active.scores import ImageScores
from bundle.errors import OptionError

STRATIFIED = 0.66  # of the draws: among images with foreground, or by the entropy of one structure (ClaSP PE)
LEAST_FOREGROUND = 1e-3  # of a slice: below it, nothing is taken to be there
FIRST_BETA, LAST_BETA = 1.0, 100.0  # 1 / scale of the power noise at the first and at the last label (ClaSP PE)
SETTLED = 50  # labels after which the noise no longer decays


@dataclass(frozen=True)
class Candidate:
    """An image.

    Attributes:
        name: its id.
        scores: what the model says of it; None if it was not asked yet.
        waited: seconds since it was given out last; a number above 0.
    """

    name: str
    scores: ImageScores | None = None
    waited: float = 1.0


@dataclass(frozen=True)
class Choice:
    """The image that was chosen.

    Attributes:
        name: its id.
        reason: one line for people.
        value: what it was chosen by, where that is a number.
    """

    name: str
    reason: str
    value: float | None = None


Rule = Callable[[Sequence[Candidate], Sequence[Candidate], np.random.Generator], Choice]
"""Chooses among images without a label (one at least), given those with one."""


def random(candidates: Sequence[Candidate], labelled: Sequence[Candidate], rng: np.random.Generator) -> Choice:
    """Any image; the longer ago one was given out, the likelier it is."""
    weights = np.array([candidate.waited for candidate in candidates])
    number = int(rng.choice(len(candidates), p=weights / weights.sum()))
    return Choice(candidates[number].name, f"drawn at random from {len(candidates)}")


def first(candidates: Sequence[Candidate], labelled: Sequence[Candidate], rng: np.random.Generator) -> Choice:
    """The first by its name, numbers in it counted as numbers; what was given out is behind what was not."""
    chosen = min(candidates, key=lambda one: (-one.waited, *_natural(one.name)))
    return Choice(chosen.name, "first by name of those given out longest ago")


def foreground_random(
    candidates: Sequence[Candidate], labelled: Sequence[Candidate], rng: np.random.Generator
) -> Choice:
    """Two of three times any image in which the model finds something, else any image."""
    found = [one for one in candidates if one.scores is not None and one.scores.foreground >= LEAST_FOREGROUND]
    if not any(one.scores is not None for one in candidates):
        return _instead(random(candidates, labelled, rng))
    if found and rng.random() < STRATIFIED:
        choice = random(found, labelled, rng)
        return replace(choice, reason=f"{choice.reason} images in which the model finds something")
    return random(candidates, labelled, rng)


def uncertainty(candidates: Sequence[Candidate], labelled: Sequence[Candidate], rng: np.random.Generator) -> Choice:
    """The image of which the model doubts most what it answers: disagreement and predicted IoU."""
    scored = [one for one in candidates if one.scores is not None and one.scores.structures]
    if not scored:
        return _instead(foreground_random(candidates, labelled, rng))
    chosen = max(scored, key=lambda one: (one.scores.doubt, rng.random()))
    return Choice(chosen.name, f"greatest doubt of {len(scored)} scored images", chosen.scores.doubt)


def clasp_pe(candidates: Sequence[Candidate], labelled: Sequence[Candidate], rng: np.random.Generator) -> Choice:
    """Class-stratified predictive entropy with decaying power noise (ClaSP PE).

    Two of three times one structure is drawn and its entropy counts, else the mean over all. The logarithm of the
    entropy gets Gumbel noise of scale 1 / beta; beta rises from 1 to 100 over the first 50 labels.
    """
    scored = [one for one in candidates if one.scores is not None and one.scores.structures]
    if not scored:
        return _instead(foreground_random(candidates, labelled, rng))
    names = sorted({name for one in scored for name in one.scores.structures})
    drawn = names[int(rng.integers(len(names)))] if rng.random() < STRATIFIED else None
    entropies = np.array([_entropy(one.scores, drawn) for one in scored])
    beta = FIRST_BETA * (LAST_BETA / FIRST_BETA) ** min(1.0, len(labelled) / SETTLED)
    noisy = np.log(np.maximum(entropies, 1e-9)) + rng.gumbel(0, 1 / beta, len(scored))
    number = int(noisy.argmax())
    what = "all structures" if drawn is None else drawn
    return Choice(scored[number].name, f"entropy of {what}, noise 1/{beta:.3g}", float(entropies[number]))


def diverse(candidates: Sequence[Candidate], labelled: Sequence[Candidate], rng: np.random.Generator) -> Choice:
    """The image that is least like all labelled ones (k-center greedy); without any, the one most like all others."""
    scored = [one for one in candidates if one.scores is not None and one.scores.features]
    if not scored:
        return _instead(random(candidates, labelled, rng))
    here = np.array([one.scores.features for one in scored])
    there = np.array([one.scores.features for one in labelled if one.scores is not None and one.scores.features])
    if len(there) == 0:
        number = int(np.linalg.norm(here - here.mean(axis=0), axis=1).argmin())
        return Choice(scored[number].name, f"most like the {len(scored)} others: no label yet to differ from")
    nearest = np.linalg.norm(here[:, None] - there[None], axis=2).min(axis=1)
    number = int(nearest.argmax())
    return Choice(scored[number].name, f"least like the {len(there)} labelled images", float(nearest[number]))


RULES: dict[str, Rule] = {
    "random": random,
    "first": first,
    "foreground_random": foreground_random,
    "uncertainty": uncertainty,
    "clasp_pe": clasp_pe,
    "diverse": diverse,
}


def rule_named(name: str) -> Rule:
    """The rule of a strategy.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in RULES:
        raise OptionError(f"expected one of the strategies {', '.join(RULES)}, got {name!r}")
    return RULES[name]


def _entropy(scores: ImageScores, name: str | None) -> float:
    if name is None:
        return scores.entropy
    return scores.structures[name].entropy if name in scores.structures else 0.0


def _instead(choice: Choice) -> Choice:
    """A choice that a rule took because no image has the scores that it reads."""
    return replace(choice, reason=f"no image is scored yet: {choice.reason.removeprefix('no image is scored yet: ')}")


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"([0-9]+)", name)  # every second one is a number
    return tuple((1, int(part), "") if number % 2 else (0, 0, part) for number, part in enumerate(parts))
