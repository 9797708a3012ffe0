"""Heads of requests that are known to be plain, so that the next one like it need not be parsed again.

A client sends the same head with every request, but for the length of the body. What a head means depends on its bytes
alone, so a head that was parsed, and whose token was accepted, means the same when its bytes come again.
"""

from __future__ import annotations

END = b"\r\n\r\n"
LONGEST = 1024
MOST = 512


class KnownHeads:
    """Plain heads of accepted requests with the length of the body they announce; a bounded number.

    They hold the token, and are looked up by a keyed hash of all bytes (SipHash): the time does not say how much of a
    token was right.
    """

    def __init__(self) -> None:
        self._lengths: dict[bytes, int] = {}

    def body_of(self, data: bytes) -> bytes | None:
        """The body of a whole request with a known head; None for everything else."""
        end = data.find(END) + len(END)
        return data[end:] if self._lengths.get(data[:end]) == len(data) - end else None

    def learn(self, data: bytes, body: bytes) -> None:
        """Remember the head of a request that was parsed and accepted.

        Args:
            data: what came from the network, beginning with the request.
            body: as the parser gave it. Only where it is all that follows the head in ``data`` is the request whole,
                not chunked, and alone.
        """
        end = len(data) - len(body)
        if 0 < end <= LONGEST and data.find(END) + len(END) == end and data.endswith(body):
            if len(self._lengths) >= MOST:
                self._lengths.clear()
            self._lengths[data[:end]] = len(body)
