"""Messages between a parent and its children: JSON, with descriptors beside it."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

MOST = 64
"""Descriptors that go with one piece of a message."""

PIECE = 1 << 16
"""Bytes that are read at once."""

LENGTH = 4
"""Bytes of the length before each message."""

Message = dict[str, Any]


class Channel:
    """One end of a pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._read = bytearray()
        self._descriptors: deque[int] = deque()

    def fileno(self) -> int:
        """The socket, to wait for."""
        return self.socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message; raises OSError where the other end is gone, or reads nothing."""
        text = json.dumps(message).encode()
        data = len(text).to_bytes(LENGTH, "big") + text
        given = list(descriptors)
        # Those that do not go with the message go before it, a byte of its length with each lot.
        while len(given) > MOST and len(data) > 1:
            socket.send_fds(self.socket, [data[:1]], given[:MOST])
            data, given = data[1:], given[MOST:]
        sent = socket.send_fds(self.socket, [data], given) if given else self.socket.send(data)
        self.socket.sendall(data[sent:])

    def receive(self) -> bool:
        """Read what there is, or wait for some; False where the other end is gone."""
        data, found, _, _ = socket.recv_fds(self.socket, PIECE, MOST)
        self._descriptors.extend(found)
        self._read += data
        return bool(data)

    def next(self) -> Message | None:
        """The next message that has been read whole; None where there is none."""
        size = int.from_bytes(self._read[:LENGTH], "big")
        if len(self._read) < LENGTH + size or not self._read:
            return None
        text = bytes(self._read[LENGTH : LENGTH + size])
        del self._read[: LENGTH + size]
        message: Message = json.loads(text)
        return message

    def wait(self) -> Message | None:
        """The next message, once it is there; None where the other end is gone."""
        while (message := self.next()) is None:
            if not self.receive():
                return None
        return message

    def descriptor(self) -> int:
        """The next descriptor that came with a message."""
        return self._descriptors.popleft()

    def close(self) -> None:
        """Close the socket, and descriptors that nobody took."""
        self.socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())
