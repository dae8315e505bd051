"""Bots: the one bridge to nonebot2, inside our own application and event loop."""

from gateway.bots.accounts import MIN_TOKEN_LENGTH, Account
from gateway.bots.bridge import BotBridge, Heard, LineTrouble, bridge_of

__all__ = [
    "MIN_TOKEN_LENGTH",
    "Account",
    "BotBridge",
    "Heard",
    "LineTrouble",
    "bridge_of",
]
