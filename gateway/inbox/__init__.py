"""Everything that comes in: stored durably, acknowledged, then routed."""

from gateway.inbox.intake import Inbox

__all__ = ["Inbox"]
