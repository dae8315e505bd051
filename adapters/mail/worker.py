"""The parser's child process: `python -m adapters.mail.worker`.

Reads jobs from stdin and answers on stdout, one at a time, under limits on processor
time and memory that the kernel enforces. pool.py is the other end.
"""

import pickle
import resource
import struct
import sys
import time
from typing import BinaryIO

from adapters.mail.parse import parse_mail

CPU_SECONDS = 5
MEMORY_BYTES = 512 * 1024 * 1024
READY = b"+"
LENGTH = struct.Struct("!II")  # of the pickled job, of the mail


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(READY)
    sink.flush()
    while head := source.read(LENGTH.size):
        _answer(head, source, sink)


def _answer(head: bytes, source: BinaryIO, sink: BinaryIO) -> None:
    job_bytes, mail_bytes = LENGTH.unpack(head)
    envelope, mailbox = pickle.loads(source.read(job_bytes))
    raw = source.read(mail_bytes)
    _limit_processor_time()
    answer = pickle.dumps(parse_mail(raw, envelope, mailbox))
    sink.write(LENGTH.pack(len(answer), 0))
    sink.write(answer)
    sink.flush()


def _limit_processor_time() -> None:
    """Renewed for each mail: the kernel counts the whole life of the process."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time()) + CPU_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main()
