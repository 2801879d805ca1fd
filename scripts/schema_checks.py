"""What every reply of the server must be, as a check of Schemathesis (``scripts/check_schema.py`` loads this)."""

from __future__ import annotations

import schemathesis

# A full queue, a request that waited too long, a full disk; 502 is a DICOMweb server's silence.
_EXPECTED = {502, 503, 504, 507}


@schemathesis.check
def answers_in_a_sentence(ctx, response, case) -> None:  # noqa: ANN001
    """No defect of the server, and a sentence for each refusal."""
    status = response.status_code
    assert status < 500 or status in _EXPECTED, f"{status}: {response.text[:300]}"
    assert status != 503 or int(response.headers["retry-after"][0]) > 0, "503 without Retry-After"
    if status >= 400 and case.method != "HEAD":
        sentence = response.json()["detail"]
        assert isinstance(sentence, str) and len(sentence.split()) > 2, f"{status} without a sentence: {sentence!r}"
        assert "Traceback" not in sentence and "/site-packages/" not in sentence, sentence
