"""The strategies that clients find under ``/info/``: the rules of ``bundle.active.selection`` over the datastore."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from bundle.active.selection import RULES, rule_named
from monailabel_app.strategies.pool import Images
from monailabel_app.wire import fields as wire

logger = logging.getLogger(__name__)

READS_SCORES = ("foreground_random", "uncertainty", "clasp_pe", "diverse")
_DESCRIPTIONS = {
    "random": "Random image without a label",
    "first": "First image without a label, by name",
    "foreground_random": "Random, two of three times an image in which the model finds something",
    "uncertainty": "The image whose answers the model doubts most",
    "clasp_pe": "The image of highest entropy, structure by structure, with noise that decays (ClaSP PE)",
    "diverse": "The image that is least like those with a label",
}


class RuleStrategy(Strategy):
    """The next image by one rule. It answers at once, from the scores that there are.

    Args:
        name: of the rule.
        images: reads the index.
        seed: of what is drawn; None draws anew each time the server starts.
    """

    def __init__(self, name: str, images: Images, *, seed: int | None = None) -> None:
        super().__init__(_DESCRIPTIONS[name])
        self._rule, self._images = rule_named(name), images
        self._rng = np.random.default_rng(seed)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The image, and why it: ``id``, ``reason``, where it is a number ``weight``, and the ``slice`` to look at.

        None if no image without a label is left, or others work on all of them.
        """
        pool = self._images.pool(datastore, wire.read_user(request))
        if not pool.unlabelled:
            if pool.taken:
                logger.info("No image is left for this user: others work on the %d without a label", pool.taken)
            return None
        choice = self._rule(pool.unlabelled, pool.labelled, self._rng)
        reason = "; ".join(filter(None, (choice.reason, pool.note)))
        if choice.reason.startswith("no image is scored") or pool.note:
            logger.warning("Next image %r: %s", choice.name, reason)
        scores = next(one.scores for one in pool.unlabelled if one.name == choice.name)
        sample: dict[str, Any] = {"id": choice.name, "reason": reason}
        sample |= {} if choice.value is None else {"weight": choice.value}
        sample |= {} if scores is None or scores.slice is None else {wire.SLICE: scores.slice}
        return sample


def all_strategies(images: Images) -> dict[str, Strategy]:
    """Every strategy by name, ``random`` first, which is what clients take if nothing is chosen."""
    return {name: RuleStrategy(name, images) for name in RULES}
