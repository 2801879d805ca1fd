"""The server in seven numbers, for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from monailabel_app.work import WorkQueue

disable_created_metrics()  # the times at which the counters began


class Metrics:
    """What is counted, of one server."""

    def __init__(self, queue: WorkQueue, held: Callable[[], Mapping[str, int]]) -> None:
        """Args:
        queue: whose length and times are told.
        held: ``open_images``, ``cache_bytes`` and ``disk_bytes``, as they are now.
        """
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "monai_sam_requests",
            "Requests that were answered",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._registry.register(_State(queue, held))

    def count(self, method: str, route: str, status: int) -> None:
        """Count a request that was answered.

        Args:
            method: HTTP method.
            route: the pattern of its address, never the address itself: each value is kept for good.
            status: of the answer.
        """
        self._requests.labels(method, route, str(status)).inc()

    def text(self) -> tuple[bytes, str]:
        """The numbers as Prometheus reads them, and the media type of that."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _State:
    """What is looked up when somebody asks."""

    def __init__(self, queue: WorkQueue, held: Callable[[], Mapping[str, int]]) -> None:
        self._queue, self._held = queue, held

    def collect(self) -> Iterator[Metric]:
        queue, held = self._queue, self._held()
        yield GaugeMetricFamily("monai_sam_queue_length", "Clicks that wait for the device", queue.waiting)
        yield CounterMetricFamily("monai_sam_waiting_seconds", "Seconds that clicks waited for it", queue.waited)
        yield CounterMetricFamily("monai_sam_working_seconds", "Seconds that it computed", queue.worked)
        yield GaugeMetricFamily("monai_sam_open_images", "Images that are kept open", held.get("open_images", 0))
        bytes_held = held.get("cache_bytes", 0)
        yield GaugeMetricFamily("monai_sam_cache_bytes", "Bytes of open images and prepared slices", bytes_held)
        on_disk = held.get("disk_bytes", 0)
        yield GaugeMetricFamily("monai_sam_prepared_disk_bytes", "Bytes of prepared slices on disk", on_disk)
