import pytest

from gateway.bots.accounts import Account, by_token

ONE = Account(channel="qq", self_id="10001", token="one-token-of-16-chars")
TWO = Account(channel="qq2", self_id="10002", token="two-token-of-16-chars")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Bearer one-token-of-16-chars", [ONE]),
        ("bearer  two-token-of-16-chars ", [TWO]),
        ("Bearer one-token-of-16-char", []),
        ("Bearer One-token-of-16-chars", []),
        ("one-token-of-16-chars", []),
        ("Basic one-token-of-16-chars", []),
        ("Bearer ", []),
        ("Bearer", []),
        ("", []),
        ("Bearer \udcff", []),
    ],
)
def test_an_account_is_found_by_its_token_alone(
    header: str, found: list[Account]
) -> None:
    assert by_token([ONE, TWO], header) == found


def test_a_token_does_not_show() -> None:
    assert ONE.token not in repr(ONE)
