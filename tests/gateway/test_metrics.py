"""What Prometheus reads of answered requests."""

from gateway.metrics import Metrics

ROUTE = "/hooks/{channel}"


def test_answers_are_counted_by_route_method_and_status() -> None:
    metrics = Metrics()
    for status in (200, 200, 404):
        metrics.answered(ROUTE, "POST", status, 0.1)
    text = metrics.exposition().decode()
    label = f'method="POST",route="{ROUTE}",status='
    assert f'lianxin_http_requests_total{{{label}"200"}} 2.0' in text
    assert f'lianxin_http_requests_total{{{label}"404"}} 1.0' in text


def test_a_bucket_holds_its_own_bound_and_all_below() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.005, 0.3, 20.0):
        metrics.answered(ROUTE, "POST", 200, seconds)
    text = metrics.exposition().decode()
    name = "lianxin_http_request_seconds"
    found = [
        line.rpartition(" ")[2]
        for line in text.splitlines()
        if line.startswith(f"{name}_bucket")
    ]
    assert found == ["2.0"] * 5 + ["3.0"] * 4 + ["4.0"]
    assert f'{name}_count{{route="{ROUTE}"}} 4.0' in text
    assert f'{name}_sum{{route="{ROUTE}"}} 20.306' in text
