"""How each kind of model is opened on a case, and asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bundle.data.volume import Volume
from bundle.errors import ProtocolError
from bundle.evaluation.baselines import Baseline
from bundle.evaluation.cases import SliceCase, VolumeCase
from bundle.evaluation.interaction import Predict, Prediction
from bundle.evaluation.runner import OpenCase
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor, SlicePrompt
from bundle.prompts.prompts import ObjectPrompts


def open_slices(predictor: SlicePredictor) -> OpenCase:
    """Slices for a network; their intensity views must come from the predictor's own contract."""

    def open_case(case: SliceCase) -> Predict:
        def predict(prompt: SlicePrompt, previous: Prediction | None) -> Prediction:
            mask_prompt = previous and previous.slice_mask
            return Prediction.of_slice(predictor.predict(case.view, replace(prompt, previous=mask_prompt)))

        return predict

    return open_case


def open_volumes(open_image: Callable[[Volume], InteractiveSession], *, axis: int = 2) -> OpenCase:
    """Volumes as a user works on them.

    Args:
        open_image: `Segmenter.open` or another that opens a session.
        axis: stored axis to travel along.
    """

    def open_case(case: VolumeCase) -> Predict:
        session = open_image(case.image)

        def predict(prompt: ObjectPrompts, previous: Prediction | None) -> Prediction:
            if previous is None:  # else the session itself knows what the prompts continue
                session.reset()
            return Prediction.of_volume(session.segment_volume(prompt, axis=axis))

        return predict

    return open_case


def open_baseline(baseline: Baseline) -> OpenCase:
    """Slices for one of `baselines.BASELINES`, which takes boxes only."""

    def open_case(case: SliceCase) -> Predict:
        picture = case.picture()

        def predict(prompt: SlicePrompt, previous: Prediction | None) -> Prediction:
            if prompt.box is None:
                raise ProtocolError("a baseline segments inside a box, got a prompt without one; use a box protocol")
            return Prediction(baseline(picture, prompt.box))

        return predict

    return open_case
