"""Learning without forgetting: what nobody looked for is answered as before, what is labelled is learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_room import make_network_like, make_samples, make_slice
from training_room import one_thread as one_thread

from bundle.data.labelled_slice import LabelledSlice
from bundle.families.family import load_family
from bundle.networks.interface import MaskPrediction
from bundle.training.batches import collate
from bundle.training.keeping import NOBODY_LOOKED, LearningWithoutForgetting, frozen_copy, places_to_keep
from bundle.training.losses import PromptLoss

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network():
    return make_network_like(load_family("default"))


def batch_of(*annotated):
    """One slice for each, of which these values were looked for."""
    samples = []
    for seed, known in enumerate(annotated):
        source = {"slices": [make_slice(seed, annotated=known)], "weight": 1.0}
        samples.append(make_samples(sources={"one": source})[seed])
    batch = collate(samples)
    batch.step = 1
    return batch


def gradient(network, before, batch, **options) -> float:
    """The norm of the gradient of all parameters."""
    objective = LearningWithoutForgetting(PromptLoss(), before=before, steps=2, **options)
    network.zero_grad()
    sum(terms.total for terms in objective(network, batch)).backward()
    return sum(float(value.grad.norm()) for value in network.parameters() if value.grad is not None)


def changed(network):
    """The network a little way on."""
    with torch.no_grad():
        for value in network.parameters():
            value += 0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    return network


def test_a_frozen_copy_stays_as_the_network_was(network):
    before, weights = frozen_copy(network), {name: value.clone() for name, value in network.state_dict().items()}
    changed(network)
    for name, value in before.state_dict().items():
        torch.testing.assert_close(value, weights[name])
    assert not before.training and not any(value.requires_grad for value in before.parameters())


def test_a_copy_of_a_tuned_network_has_a_tuning_of_its_own():
    tunings = [{"kind": "lora", "part": "encoder"}]
    family = load_family("default")
    network = make_network_like(replace(family, network_def={**family.network_def, "tuning": tunings}))
    before, image = frozen_copy(network), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        answer = before(image)
        changed(network)
        torch.testing.assert_close(before(image), answer)
    assert (network(image) - answer).abs().max() > 1e-3


def test_what_is_answered_as_before_teaches_nothing(network):
    assert gradient(network, frozen_copy(network), batch_of(NOBODY_LOOKED, NOBODY_LOOKED)) < 1e-4
    assert gradient(network, frozen_copy(network), batch_of(None, NOBODY_LOOKED)) > 1e-2


def test_what_is_answered_otherwise_is_pulled_back(network):
    before = frozen_copy(network)
    batch = batch_of(NOBODY_LOOKED)
    once = gradient(changed(network), before, batch)
    assert once > 1e-2
    assert gradient(network, before, batch, keep=3.0) == pytest.approx(3 * once, rel=1e-3)


def test_labelled_objects_do_not_ask_the_network_from_before(network):
    assert gradient(network, None, batch_of(None, (1, 2))) > 1e-2


def test_each_object_is_compared_with_the_answer_on_its_own_image(network):
    """The second image is kept and the first is not: asked on the first, the answer would be another."""
    batch = batch_of(None, NOBODY_LOOKED)
    objective = LearningWithoutForgetting(PromptLoss(cross_entropy=0.0), before=frozen_copy(network), steps=1)
    terms = next(iter(objective(network, batch)))
    kept = batch.image_index == 1
    learnt = next(
        iter(LearningWithoutForgetting(PromptLoss(cross_entropy=0.0), before=None, steps=1)(network, batch_of(None)))
    )
    share = float((~kept).float().mean())
    assert float(terms.total.detach()) == pytest.approx(share * float(learnt.total.detach()), abs=1e-4)


def test_two_answers_differ_by_nothing_only_where_they_are_the_same():
    logits, loss = torch.randn(2, 3, 8, 8), PromptLoss(cross_entropy=0.0)
    one = MaskPrediction(logits, torch.full((2, 3), 0.7))
    assert float(loss.difference(one, one).total) == pytest.approx(0, abs=1e-6)
    other = MaskPrediction(logits.clone(), one.iou + 0.1)
    assert float(loss.difference(other, one).iou) == pytest.approx(0.01, abs=1e-6)
    other.logits[0, 2] += 1.0  # a candidate that is not the best counts, too
    assert float(loss.difference(other, one).mask) > 0.001


def picture_with_a_spot() -> LabelledSlice:
    """A labelled disc and bar, and a bright spot that nobody labelled."""
    labelled = make_slice(0)
    picture = np.where(labelled.labels > 0, labelled.picture, 40).astype(np.uint8)
    picture[4:14, 34:44] = 220
    return replace(labelled, picture=picture)


def test_places_to_keep_lie_beside_what_is_labelled():
    labelled = picture_with_a_spot()
    *generated, place = places_to_keep([make_slice(5, patient="phantom")], [labelled])
    assert [one.patient for one in generated] == ["phantom"]
    assert all(one.annotated == NOBODY_LOOKED for one in (*generated, place))
    assert place.ids and not (place.labels[labelled.labels > 0]).any()
    assert np.isin(place.labels[6:12, 36:42], place.ids).all()


def test_pictures_in_colour_leave_the_generated_patients():
    coloured = replace(make_slice(0), picture=np.zeros((48, 48, 3), np.uint8))
    assert [one.patient for one in places_to_keep([make_slice(5, patient="phantom")], [coloured])] == ["phantom"]


def test_of_many_slices_some_are_looked_at():
    many = [replace(picture_with_a_spot(), key=f"p0-2-{number:04d}") for number in range(100)]
    assert 0 < len(places_to_keep([], many)) <= 34
