"""Who else reaches a server: small ones that listen on every address, seen from another one of this machine."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from infra import exposure

ELSEWHERE = "127.0.0.2"  # stands for the address that others see


@pytest.fixture
def another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposure, "_addresses", lambda: [ELSEWHERE])


@contextmanager
def serving(answers: dict[str, int], otherwise: int) -> Iterator[str]:
    """A server that answers by the name it is called, without its port; its URL, as its owner calls it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.get(self.headers["Host"].rpartition(":")[0], otherwise))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("0.0.0.0", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("answers", "otherwise", "hosts"),
    [
        ({}, 200, [ELSEWHERE]),
        ({}, 404, [ELSEWHERE]),
        ({}, 401, []),
        ({}, 403, []),
        ({"localhost": 200}, 403, [ELSEWHERE]),
        ({ELSEWHERE: 401, "localhost": 404}, 404, []),
        ({ELSEWHERE: 403, "localhost": 404}, 404, []),
    ],
    ids=[
        "open",
        "open, another path",
        "asks for a login",
        "refuses everybody",
        "refuses names that it does not know, as MLflow does",
        "a proxy that asks for a login under this name alone",
        "a proxy that refuses strangers under this name alone",
    ],
)
def test_a_refusal_counts_if_no_other_name_opens_the_door(
    another_address: None, answers: dict[str, int], otherwise: int, hosts: list[str]
) -> None:
    with serving(answers, otherwise) as url:
        assert exposure.open_to_others(url, "/path") == hosts


def test_a_machine_whose_own_name_nobody_knows_has_addresses_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    known = set(exposure._addresses())
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert set(exposure._addresses()) <= known
