"""Logs name places and types, never what somebody wrote or who somebody is."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway import logs
from gateway.settings import Log

CANARY = "+8613900001111"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = before
    structlog.reset_defaults()


def fail(telephone: str) -> None:
    try:
        int(telephone + "x")
    except ValueError as error:
        raise LookupError(f"no member with {telephone}") from error


@pytest.mark.parametrize("json_lines", [False, True])
@pytest.mark.parametrize("library", [False, True])
def test_a_failure_tells_neither_messages_nor_variables(
    json_lines: bool, library: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.root.handlers[:] = []
    logs.configure(Log(level="debug", json_lines=json_lines))
    log = logging.getLogger("library") if library else structlog.get_logger()
    try:
        fail(CANARY)
    except LookupError:
        log.exception("request.failed")
    shown = capsys.readouterr().err
    assert CANARY not in shown
    assert "LookupError" in shown
    assert "ValueError" in shown
    assert "test_logs.py" in shown
    assert "fail" in shown
