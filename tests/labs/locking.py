"""Another program that holds SQLite's write lock."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager


@contextmanager
def locked(url: str) -> Iterator[None]:
    """It writes, and doesn't come to an end."""
    with closing(sqlite3.connect(url.removeprefix("sqlite://"))) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()
