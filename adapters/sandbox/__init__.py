"""Sandbox channels: virtual handsets, a QQ group and private chat, and a mailbox."""

from adapters.sandbox.adapter import Settings, build

__all__ = ["Settings", "build"]
