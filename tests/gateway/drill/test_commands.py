"""What is asked for is understood, or refused before anything runs."""

import pytest
from typer.testing import CliRunner

from gateway.drill.commands import cli, refuse_used


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("crash", "--sink", "smpp,pigeon"), "smpp, cmpp, smtp, sandbox"),
        (("crash", "--engine", "mysql"), "sqlite, or postgres"),
        (("crash", "--design", "all"), "journal"),
        (("crash", "--engine", "postgres://nobody@127.0.0.1:1/scratch"), "refused"),
        (("points", "--call", "sync"), "fdatasync"),
        (("power", "--sink", "pigeon"), "smpp, cmpp, smtp, sandbox"),
    ],
)
def test_what_nobody_knows_is_refused(asked: tuple[str, ...], told: str) -> None:
    answer = CliRunner().invoke(cli, asked)
    assert answer.exit_code == 2
    assert told in answer.output or "this machine can't" in answer.output


def test_a_database_that_is_in_use_is_left_alone(postgres_url: str) -> None:
    """Somebody's installation, perhaps: nothing is written there."""
    asked = ("crash", "--engine", postgres_url, "--kills", "0", "--messages", "1")
    answer = CliRunner().invoke(cli, asked)
    assert answer.exit_code == 2
    assert "tables are there" in answer.output


def test_an_empty_database_is_one_to_work_in(postgres_server: str) -> None:
    refuse_used(f"{postgres_server}/postgres")
