"""Numbers for Prometheus. Labels are channel names and states, never people."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest


class Metrics:
    """The numbers of one gateway, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.inbound = Counter(
            "lianxin_inbound_total",
            "Messages received and stored",
            ["channel"],
            registry=self._registry,
        )
        self.outbound = Counter(
            "lianxin_outbound_total",
            "Messages of which a channel told what became of them",
            ["channel", "state"],
            registry=self._registry,
        )
        self.queue = Gauge(
            "lianxin_queue",
            "Messages waiting in the outbox",
            ["channel"],
            registry=self._registry,
        )
        self.stalls = Counter(
            "lianxin_loop_stalled_seconds",
            "Time in which the event loop stood still for 0.2 s and more",
            registry=self._registry,
        )
        self.stall_count = Counter(
            "lianxin_loop_stalls",
            "How often the event loop stood still for 0.2 s and more",
            registry=self._registry,
        )
        self.requests = Counter(
            "lianxin_http_requests_total",
            "Answered HTTP requests",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "lianxin_http_request_seconds",
            "Time to answer an HTTP request",
            ["route"],
            registry=self._registry,
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )

    def stalled(self, seconds: float) -> None:
        """The event loop stood still; may be called in any thread."""
        self.stalls.inc(seconds)
        self.stall_count.inc()

    def exposition(self) -> bytes:
        """All numbers in the Prometheus text format."""
        return generate_latest(self._registry)
