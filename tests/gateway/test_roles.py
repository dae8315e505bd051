"""What a process may be asked to do."""

import pytest

from gateway import roles
from gateway.errors import SettingsError
from gateway.roles import EVERY, Role


def test_roles_are_read_and_named_in_one_order() -> None:
    read = roles.parse("sender, web", splits=True)
    assert read == {Role.WEB, Role.SENDER}
    assert roles.named(read) == "web,sender"
    assert roles.parse(roles.named(EVERY), splits=False) == EVERY


@pytest.mark.parametrize("text", ["", "boss", "web,boss", ","])
def test_a_wrong_role_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="expected some of: web, bots, sender"):
        roles.parse(text, splits=True)


def test_on_sqlite_one_process_does_all() -> None:
    with pytest.raises(SettingsError, match="use PostgreSQL"):
        roles.parse("web", splits=False)
