"""A real Dovecot on loopback ports: takes mail by LMTP, shows it by IMAP."""

import asyncio
import imaplib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "lab-imap-password"
CONFIG = """
protocols = imap lmtp
listen = 127.0.0.1
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/dovecot.log
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{root}/mail/%n
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
recipient_delimiter = +
auth_username_format = %Ln
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={root}/mail/%n allow_all_users=yes
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Dovecot:
    imap_port: int
    lmtp_port: int
    root: Path

    def inbox(self, user: str) -> list[bytes]:
        """Every mail of `user`, as IMAP shows it."""
        client = imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=10)
        with client:
            client.login(user, PASSWORD)
            client.select("INBOX", readonly=True)
            _, found = client.search(None, "ALL")
            numbers = found[0].split()
            answers = [client.fetch(n.decode(), "(BODY.PEEK[])")[1] for n in numbers]
        return [
            part[1] for parts in answers for part in parts if isinstance(part, tuple)
        ]

    @property
    def log(self) -> str:
        return (self.root / "dovecot.log").read_text(encoding="utf-8")


def _configured(imap_port: int, lmtp_port: int) -> Path:
    # Its daemons run as their own user: pytest's folder is closed to them.
    root = Path(tempfile.mkdtemp(prefix="dovecot-"))
    root.chmod(0o755)
    (root / "mail").mkdir()
    shutil.chown(root / "mail", "mail", "mail")
    owner = os.stat(root / "mail")
    (root / "dovecot.conf").write_text(
        CONFIG.format(
            root=root,
            uid=owner.st_uid,
            gid=owner.st_gid,
            imap=imap_port,
            lmtp=lmtp_port,
            password=PASSWORD,
        )
    )
    return root


@asynccontextmanager
async def dovecot(imap_port: int, lmtp_port: int) -> AsyncIterator[Dovecot]:
    """Running until the context is left; any user's password is `PASSWORD`."""
    root = _configured(imap_port, lmtp_port)
    process = await asyncio.create_subprocess_exec(
        "dovecot", "-F", "-c", str(root / "dovecot.conf")
    )
    try:
        await _listening(imap_port)
        yield Dovecot(imap_port, lmtp_port, root)
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(root)


async def _listening(port: int) -> None:
    async with asyncio.timeout(15):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return
