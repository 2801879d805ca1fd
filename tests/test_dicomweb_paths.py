"""The proxy reads resources of DICOMweb and nothing else of that server."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monailabel_app.errors import RequestError
from monailabel_app.server.dicomweb_paths import checked_dicomweb_path

STUDY = "studies/1.2.840.113"
SERIES = f"{STUDY}/series/1.3.6"
INSTANCE = f"{SERIES}/instances/1.2.3"


@pytest.mark.parametrize("operation", ["wado", "qido"])
@pytest.mark.parametrize(
    "path",
    [
        "studies",
        "series",
        "instances",
        STUDY,
        f"{STUDY}/metadata",
        f"{STUDY}/series",
        f"{STUDY}/instances",
        SERIES,
        f"{SERIES}/metadata",
        f"{SERIES}/instances",
        f"{SERIES}/thumbnail",
        INSTANCE,
        f"{INSTANCE}/rendered",
        f"{INSTANCE}/frames/1",
        f"{INSTANCE}/frames/1,2,3/rendered",
        f"{INSTANCE}/bulkdata/7FE00010",
        f"{INSTANCE}/bulk/00420011/1/00420010",
    ],
)
def test_what_ohif_reads_passes(operation, path):
    assert checked_dicomweb_path(operation, path) == path


@pytest.mark.parametrize("operation", ["wado", "qido"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "../system",
        "%2e%2e/%2e%2e/system",
        "%252e%252e/%252e%252e/system",
        "%25252e%25252e/system",
        "..\\..\\patients",
        "%2e%2e%5c..%5cpatients",
        "studies/../../system",
        "studies/..;/system",
        "studies/1.2/../../../system",
        "studies/1.2\\..\\..",
        "studies/./1.2",
        "studies//series",
        "/studies",
        "//evil.example/studies",
        "http://evil.example/studies",
        "studies?x=1",
        "studies%3Fx=1",
        "studies#x",
        "studies@evil.example",
        "studies\n",
        "studies%0d%0aHost: evil",
        "studies/1.2\0",
        "studies/1.2%00",
        "studies/1.2.%2e",
        "studies/.1.2",
        "studies/１.2",
        "studies/abc",
        f"{INSTANCE}/frames/1/../../../../../../system",
        f"{INSTANCE}/bulkdata/../x",
        "patients",
        "system",
        "tools/reset",
        "studies/" + "1" * 2000,
        "%" + "25" * 600 + "2e",
    ],
)
def test_anything_else_is_refused(operation, path):
    with pytest.raises(RequestError, match="proxy reads") as refusal:
        checked_dicomweb_path(operation, path)
    assert refusal.value.status == 404


@pytest.mark.parametrize("operation", ["stow", "", "..", "WADO"])
def test_only_reading_operations_pass(operation):
    with pytest.raises(RequestError):
        checked_dicomweb_path(operation, "studies")


@given(st.text(), st.integers(0, 3))
def test_whatever_passes_is_a_plain_path_however_it_was_encoded(text, rounds):
    path = f"studies/{text}"
    for _ in range(rounds):
        path = quote(path, safe="")
    try:
        passed = checked_dicomweb_path("wado", path)
    except RequestError:
        return
    assert passed.isascii() and not set(passed) & set("\\%?#@:;\n\r\0 ") and ".." not in passed and "//" not in passed
