"""The installation's root key: a file outside the database, made on first start."""

import hmac
import os
import secrets
from pathlib import Path

from gateway.errors import SettingsError


class Keys:
    """Derives one 32-byte key for each purpose from the root key."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._derived: dict[str, bytes] = {}

    def derive(self, purpose: str) -> bytes:
        """The same for ever. Kept: every mail of a broadcast asks for one."""
        if purpose not in self._derived:
            key = hmac.digest(self._root, purpose.encode(), "sha256")
            self._derived[purpose] = key
        return self._derived[purpose]


def load(data_dir: Path) -> Keys:
    """Read `data_dir/secret.key`; make it, mode 0600, where there is none yet."""
    path = data_dir / "secret.key"
    data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _create(path)
    root = path.read_bytes()
    if len(root) != 32:
        raise SettingsError([f"{path}: expected 32 bytes; restore it from a backup"])
    return Keys(root)


def _create(path: Path) -> None:
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
