"""E-mail: a mail server for what comes in, a relay for what goes out.

The parser's child processes import this package too, so the servers and the client
are imported only where a channel is built.
"""

from typing import TYPE_CHECKING

from adapters.mail.settings import Settings
from gateway.contract import ChannelContext

if TYPE_CHECKING:
    from adapters.mail.adapter import EmailAdapter

__all__ = ["Settings", "build"]


def build(settings: Settings, context: ChannelContext) -> "EmailAdapter":
    from adapters.mail.adapter import EmailAdapter

    return EmailAdapter(settings, context)
