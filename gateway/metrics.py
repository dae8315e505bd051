"""Numbers for Prometheus. Labels are channel names and states, never people."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest


class Metrics:
    """The numbers of one gateway, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
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
        self.breaker = Gauge(
            "lianxin_channel_unreachable",
            "1 while a channel's breaker is open: nobody answers there",
            ["channel"],
            registry=self._registry,
        )
        self.stuck = Gauge(
            "lianxin_channel_waiting_too_long",
            "1 while a message waits for 15 minutes and more that should have left",
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

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an HTTP answer. Its labels are looked up once: that costs more."""
        asked = route, method, status
        if asked not in self._answered:
            count = self.requests.labels(route, method, str(status))
            self._answered[asked] = count, self.seconds.labels(route)
        count, time = self._answered[asked]
        count.inc()
        time.observe(seconds)

    def exposition(self) -> bytes:
        """All numbers in the Prometheus text format."""
        return generate_latest(self._registry)
