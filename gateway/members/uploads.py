"""Sheets between upload and confirmation: files in the data folder, for an hour."""

import asyncio
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gateway.actors import Actor
from gateway.core import Core
from gateway.errors import NotFound

_KEPT = timedelta(hours=1)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    token: str
    name: str
    rows: list[list[str]]


def _folder(core: Core) -> Path:
    return core.settings.storage.data_dir / "uploads"


async def keep(core: Core, actor: Actor, name: str, rows: list[list[str]]) -> Upload:
    """Store a sheet for its uploader alone."""
    upload = Upload(token=secrets.token_urlsafe(16), name=name, rows=rows)
    body = {
        "staff": actor.staff_id,
        "name": name,
        "rows": rows,
        "until": (core.clock.now() + _KEPT).timestamp(),
    }
    await asyncio.to_thread(_write, core, upload.token, body)
    return upload


def _write(core: Core, token: str, body: Mapping[str, object]) -> None:
    folder = _folder(core)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _drop_old(core, folder)
    path = folder / f"{token}.json"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(body, file, ensure_ascii=False)


def _drop_old(core: Core, folder: Path) -> None:
    for path in folder.glob("*.json"):
        if _read(core, path) is None:
            path.unlink(missing_ok=True)


def _read(core: Core, path: Path) -> dict[str, object] | None:
    """None where it is gone, past its time or cut short by a crash."""
    try:
        body: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        until = float(str(body["until"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return body if until > core.clock.now().timestamp() else None


async def find(core: Core, actor: Actor, token: str) -> Upload:
    """NotFound for a sheet of somebody else, or one that is past its hour."""
    if not _TOKEN.fullmatch(token):
        raise NotFound
    body = await asyncio.to_thread(_read, core, _folder(core) / f"{token}.json")
    if body is None or body["staff"] != actor.staff_id:
        raise NotFound
    rows = body["rows"]
    assert isinstance(rows, list)
    return Upload(token=token, name=str(body["name"]), rows=rows)


def drop(core: Core, token: str) -> None:
    (_folder(core) / f"{token}.json").unlink(missing_ok=True)
