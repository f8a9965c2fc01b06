"""Ports on loopback."""

import socket
from contextlib import ExitStack


def free(count: int = 1) -> list[int]:
    """Different ones that nobody listens on, because all are held until the last is found."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


def taken(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def answers(port: int) -> bool:
    """Whether a connection is taken there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
