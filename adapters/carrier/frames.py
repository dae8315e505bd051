"""Frames with a four-byte length in front, as all carrier protocols have them."""

from struct import Struct

CEILING_BYTES = 64 * 1024
_LENGTH = Struct(">I").unpack_from


class Frames:
    """Cuts a stream into frames; keeps what is not complete yet.

    After a length that can't be, nothing behind it can be read: `fault` says so, and
    the connection has to be given up. Never holds more than one frame's ceiling.
    """

    def __init__(self, shortest: int) -> None:
        self.fault = ""
        self._shortest = shortest
        self._rest = bytearray()
        self._needed = 4

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, whole, oldest first."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        frames, start = self._cut(data)
        self._rest += data[start:]
        return frames

    def _cut(self, data: bytes) -> tuple[list[bytes], int]:
        frames: list[bytes] = []
        start, end, shortest = 0, len(data), self._shortest
        self._needed = 4
        while end - start >= 4:
            (length,) = _LENGTH(data, start)
            if length < shortest or length > CEILING_BYTES:
                self.fault = f"frame_of_{length}_bytes"
                return frames, end
            if end - start < length:
                self._needed = length
                break
            frames.append(data[start : start + length])
            start += length
        return frames, start
