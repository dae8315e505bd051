"""Numbers for Prometheus. Labels are channel names and states, never people."""

from bisect import bisect_left
from collections import Counter as Numbers
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

_BOUNDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds


class Answers(Collector):
    """Answered HTTP requests: plain numbers, as one thread counts and reads them.
    Prometheus' own counters take a lock for each."""

    def __init__(self) -> None:
        self._counts: Numbers[tuple[str, str, int]] = Numbers()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._took: defaultdict[str, list[int]] = defaultdict(
            lambda: [0] * (len(_BOUNDS) + 1)
        )

    def add(self, route: str, method: str, status: int, seconds: float) -> None:
        self._counts[route, method, status] += 1
        self._seconds[route] += seconds
        self._took[route][bisect_left(_BOUNDS, seconds)] += 1

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        requests = CounterMetricFamily(
            "lianxin_http_requests",
            "Answered HTTP requests",
            labels=["route", "method", "status"],
        )
        for (route, method, status), count in self._counts.items():
            requests.add_metric([route, method, str(status)], count)
        seconds = HistogramMetricFamily(
            "lianxin_http_request_seconds",
            "Time to answer an HTTP request",
            labels=["route"],
        )
        for route, took in self._took.items():
            seconds.add_metric([route], _buckets(took), self._seconds[route])
        yield requests
        yield seconds


def _buckets(took: Sequence[int]) -> list[tuple[str, float]]:
    names = [*map(str, _BOUNDS), "+Inf"]
    return list(zip(names, accumulate(took), strict=True))


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
        answers = Answers()
        self._registry.register(answers)
        self.answered = answers.add

    def stalled(self, seconds: float) -> None:
        """The event loop stood still; may be called in any thread."""
        self.stalls.inc(seconds)
        self.stall_count.inc()

    def exposition(self) -> bytes:
        """All numbers in the Prometheus text format."""
        return generate_latest(self._registry)
