"""A TCP proxy that wounds what passes through it, to stand between a client and a real server.

    with Proxy("127.0.0.1", server_port) as wire:
        wire.flip(DOWN, 5_000, times=1)
        client_of(f"http://{wire.address}")
        assert wire.wounds == 1

`UP` is client to server, `DOWN` the way back. Bytes are counted from 0 for every message, that is, anew each time the
other side has spoken; so a kept-alive connection feels a fault like a new one. `times` limits how often a fault
strikes, `wounds` says how often it did. With a `share` below 1 a fault strikes that share of the messages; which ones,
`seed` decides.
"""

import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self

Direction = Literal["up", "down"]
UP: Direction = "up"
DOWN: Direction = "down"
OTHER: dict[Direction, Direction] = {UP: DOWN, DOWN: UP}
ALWAYS = float("inf")

Effect = Callable[["Connection", Direction, bytes], bytes]  # what is passed on in place of these bytes


class Cut(Exception):
    """The fault has ended the connection."""


class Connection:
    """The sockets of a client and of the server, by the direction in which each is read."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends: dict[Direction, socket.socket] = {UP: client, DOWN: server}
        self.passed: dict[Direction, int] = {UP: 0, DOWN: 0}
        self.chosen: dict[Direction, bool] = {UP: True, DOWN: True}  # whether a fault may strike this message
        self.ended = False

    def reset(self) -> None:
        """End both sides with RST, as a crash or a firewall does."""
        with suppress(OSError):
            for end in self.ends.values():
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end(socket.SHUT_RD)

    def close(self) -> None:
        """End both sides with FIN."""
        self._end(socket.SHUT_RDWR)

    def _end(self, how: int) -> None:
        """Shut down first: that wakes the thread that waits in `recv`, which `close` alone does not."""
        self.ended = True
        for end in self.ends.values():
            with suppress(OSError):
                end.shutdown(how)
            end.close()


class Proxy:
    """Forwards to one server; a fault is set by calling its name, and is felt from the next bytes on."""

    def __init__(self, host: str, port: int, share: float = 1.0, seed: int = 0) -> None:
        self.wounds = 0
        self._server = (host, port)
        self._share = share
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._effect: Effect = _untouched
        self._left = ALWAYS
        self._open: set[Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"

    def heal(self) -> None:
        """Pass everything untouched."""
        self._set(_untouched, ALWAYS)

    def refuse(self, times: float = ALWAYS) -> None:
        """Reset a connection as soon as a side speaks."""
        self._end_after(None, 0, Connection.reset, times)

    def reset_after(self, direction: Direction, count: int, times: float = ALWAYS) -> None:
        """Pass `count` bytes of a message, then RST; what the receiver has not read yet is lost to it."""
        self._end_after(direction, count, Connection.reset, times)

    def close_after(self, direction: Direction, count: int, times: float = ALWAYS) -> None:
        """Pass `count` bytes of a message, then FIN: cut short without an error."""
        self._end_after(direction, count, Connection.close, times)

    def drop_response(self, skip: int = 0, times: float = ALWAYS) -> None:
        """Pass the request; reset when the answer begins: the server has done the work, and nobody learns of it.

        The first `skip` answers get through. An HTTP "100 Continue" is no answer.
        """
        let_through = itertools.count(1)

        def effect(connection: Connection, way: Direction, data: bytes) -> bytes:
            begins = way == DOWN and connection.passed[DOWN] == 0 and not data.startswith(b"HTTP/1.1 100")
            if begins and next(let_through) > skip and self._strikes(connection, way):
                connection.reset()
                raise Cut
            return data

        self._set(effect, times)

    def flip(self, direction: Direction, offset: int, times: float = ALWAYS) -> None:
        """Change one bit of the byte at `offset` of a message."""

        def effect(connection: Connection, way: Direction, data: bytes) -> bytes:
            at = offset - connection.passed[way]
            if way == direction and 0 <= at < len(data) and self._strikes(connection, way):
                return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            return data

        self._set(effect, times)

    def flip_anywhere(self) -> None:
        """Change one bit of the first bytes of a message, wherever it is."""

        def effect(connection: Connection, way: Direction, data: bytes) -> bytes:
            if connection.passed[way] or not self._strikes(connection, way):
                return data
            at, bit = self._draw.randrange(len(data)), self._draw.randrange(8)
            return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]

        self._set(effect, ALWAYS)

    def latency(self, seconds: float) -> None:
        """Hold every chunk back, both ways."""

        def effect(connection: Connection, way: Direction, data: bytes) -> bytes:
            if self._strikes(connection, way):
                time.sleep(seconds)
            return data

        self._set(effect, ALWAYS)

    def blackhole(self) -> None:
        """Take every byte, pass none, never close: this message and all that follow it on its connection."""
        swallowed = set[Connection]()

        def effect(connection: Connection, way: Direction, data: bytes) -> bytes:
            if connection in swallowed or self._strikes(connection, way):
                swallowed.add(connection)
                return b""
            return data

        self._set(effect, ALWAYS)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.reset()

    def _end_after(
        self, direction: Direction | None, count: int, end: Callable[[Connection], None], times: float
    ) -> None:
        def effect(connection: Connection, way: Direction, data: bytes) -> bytes:
            due = connection.passed[way] + len(data) >= count
            if direction not in (None, way) or not due or not self._strikes(connection, way):
                return data
            with suppress(OSError):
                connection.ends[OTHER[way]].sendall(data[: count - connection.passed[way]])
            end(connection)
            raise Cut

        self._set(effect, times)

    def _set(self, effect: Effect, times: float) -> None:
        with self._lock:
            self._effect, self._left, self.wounds = effect, times, 0

    def _chooses(self) -> bool:
        with self._lock:
            return self._draw.random() < self._share

    def _strikes(self, connection: Connection, way: Direction) -> bool:
        with self._lock:
            if self._left <= 0 or not connection.chosen[way]:
                return False
            self._left -= 1
            self.wounds += 1
            return True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        try:
            connection = Connection(client, socket.create_connection(self._server))
        except OSError:
            client.close()
            return
        with self._lock:
            self._open.add(connection)
        back = threading.Thread(target=self._pump, args=(connection, DOWN), daemon=True)
        back.start()
        self._pump(connection, UP)
        back.join()
        connection.close()
        with self._lock:
            self._open.discard(connection)

    def _pump(self, connection: Connection, way: Direction) -> None:
        """Carry bytes one way until an end closes or the fault cuts."""
        source, target = connection.ends[way], connection.ends[OTHER[way]]
        try:
            while data := source.recv(65536):
                connection.passed[OTHER[way]] = 0
                if connection.passed[way] == 0:
                    connection.chosen[way] = self._chooses()
                sent = self._effect(connection, way, data)
                connection.passed[way] += len(data)  # before the other side can speak
                target.sendall(sent)
            if not connection.ended:
                target.shutdown(socket.SHUT_WR)
        except Cut:
            pass
        except OSError:
            connection.reset()


def _untouched(connection: Connection, way: Direction, data: bytes) -> bytes:
    return data
