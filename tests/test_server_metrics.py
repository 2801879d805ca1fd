"""Of monailabel_app.server.metrics: the server counts what it does, in Prometheus' words, and nothing of a patient."""

from __future__ import annotations

import pytest
from app_room import a_volume, client_of
from prometheus_client.parser import text_string_to_metric_families

from monailabel_app.server import state_routes
from monailabel_app.server.metrics import Metrics
from monailabel_app.work import WorkQueue, doing, turn


def samples(text: str) -> dict[str, float]:
    return {
        " ".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_seven_numbers_are_told():
    queue = WorkQueue()
    metrics = Metrics(queue, lambda: {"open_images": 2, "cache_bytes": 1000, "disk_bytes": 3000})
    with queue.admitted("anna", "m") as work, doing(work), turn("a"):
        pass
    metrics.count("GET", "/info/", 200)
    metrics.count("GET", "/info/", 200)
    text, media_type = metrics.text()
    found = samples(text.decode())
    assert media_type.startswith("text/plain") and len(found) == 7
    assert found["monai_sam_requests_total /info/ 200 GET"] == 2
    assert found["monai_sam_open_images"] == 2 and found["monai_sam_cache_bytes"] == 1000
    assert found["monai_sam_prepared_disk_bytes"] == 3000
    assert found["monai_sam_queue_length"] == 0
    assert found["monai_sam_working_seconds_total"] == queue.worked > 0
    assert found["monai_sam_waiting_seconds_total"] == queue.waited
    assert state_routes.metrics.__doc__.startswith("Seven numbers")


@pytest.mark.parametrize("address", ["/datastore/image?image=Mueller_1950", "/session/Mueller_1950", "/Mueller_1950"])
def test_requests_are_counted_by_route_and_never_by_address(tmp_path, address):
    a_volume(tmp_path / "studies" / "ct.nii.gz")
    with client_of(tmp_path / "studies", tmp_path / "sessions") as client:
        status = client.get(address).status_code
        text = client.get("/metrics").text
    route = {"/datastore": "/datastore/image", "/session/M": "/session/{session_id}"}.get(address[:10], "unknown")
    method = "OTHER" if route == "unknown" else "GET"
    assert any(key.startswith("monai_sam_requests_total ") and route in key for key in samples(text))
    assert f'{{method="{method}",route="{route}",status="{status}"}} 1.0' in text and "Mueller" not in text
