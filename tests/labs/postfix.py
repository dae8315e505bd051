"""A real Postfix with its own configuration and queue on a loopback port."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

MAIN = """
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/postfix.log
maillog_file_prefixes = {root}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.centre.example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = permit_mynetworks, reject
transport_maps = texthash:{root}/transport
recipient_delimiter = +
smtputf8_enable = no
smtp_tls_security_level = none
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    port: int
    root: Path

    @property
    def log(self) -> str:
        return (self.root / "postfix.log").read_text(encoding="utf-8")


def _postfix(root: Path, command: str) -> None:
    subprocess.run(
        ["postfix", "-c", str(root / "etc"), command], check=True, capture_output=True
    )


def _configured(port: int, routes: Mapping[str, str]) -> Path:
    # Its daemons run as their own user: pytest's folder is closed to them.
    root = Path(tempfile.mkdtemp(prefix="postfix-"))
    root.chmod(0o755)
    for name in ("etc", "queue", "data"):
        (root / name).mkdir()
    shutil.chown(root / "data", "postfix")
    (root / "etc/main.cf").write_text(MAIN.format(root=root))
    (root / "etc/master.cf").write_text(MASTER.format(port=port))
    lines = [f"{domain} {transport}\n" for domain, transport in routes.items()]
    (root / "transport").write_text("".join(lines))
    return root


@asynccontextmanager
async def postfix(port: int, routes: Mapping[str, str]) -> AsyncIterator[Postfix]:
    """Running on `port`, with `routes` from domains to Postfix transports."""
    root = _configured(port, routes)
    await asyncio.to_thread(_postfix, root, "start")
    try:
        yield Postfix(port, root)
    finally:
        await asyncio.to_thread(_postfix, root, "stop")
        shutil.rmtree(root)
