"""Chance that can be repeated: the same seed, matter and name fall the same way."""

import hashlib


def share(seed: int, matter: str, name: str) -> float:
    """A number of [0, 1) for this name in this matter."""
    digest = hashlib.blake2b(f"{seed}:{matter}:{name}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / 2**64


def falls(chance: float, seed: int, matter: str, name: str) -> bool:
    return share(seed, matter, name) < chance
