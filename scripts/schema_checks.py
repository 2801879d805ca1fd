"""What every reply of the server must be, as a check of Schemathesis (``scripts/check_schema.py`` loads this)."""

from __future__ import annotations

from typing import Any

import schemathesis

# A DICOMweb server's silence, a full queue, a request that waited too long, a full disk.
_EXPECTED = {502, 503, 504, 507}
# What there is on the server, so that not all requests are about nothing; ``id``, what is removed, is left to chance.
_THERE = {"image": "ct", "label": "ct", "tag": "final", "model": "sam_2d", "strategy": "random"}


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Half of the requests ask for what there is."""
    return _with_what_there_is(query)


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same of parameters in the path."""
    return _with_what_there_is(path_parameters)


def _with_what_there_is(values: dict[str, Any] | None) -> dict[str, Any] | None:
    if not values or len(repr(values)) % 2:
        return values
    return {name: _THERE.get(name, value) for name, value in values.items()}


@schemathesis.check
def answers_in_a_sentence(ctx: Any, response: Any, case: Any) -> None:
    """No defect of the server, and a sentence for each refusal."""
    status = response.status_code
    assert status < 500 or status in _EXPECTED, f"{status}: {response.text[:300]}"
    assert status != 503 or int(response.headers["retry-after"][0]) > 0, "503 without Retry-After"
    if status >= 400 and case.method != "HEAD":
        sentence = response.json()["detail"]
        assert isinstance(sentence, str) and len(sentence.split()) > 2, f"{status} without a sentence: {sentence!r}"
        assert "Traceback" not in sentence and "/site-packages/" not in sentence, sentence
