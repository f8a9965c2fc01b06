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


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "127.0.1.1"])
def test_whatever_this_machine_calls_itself_others_call_it_by_its_addresses(another_address: None, host: str) -> None:
    with serving({}, 200) as url:
        assert exposure.open_to_others(url.replace("127.0.0.1", host), "/path") == [ELSEWHERE]
        assert not exposure.in_private_network(url.replace("127.0.0.1", host))


@pytest.mark.parametrize(
    ("addresses", "private"),
    [
        (["172.18.0.4"], True),
        (["10.1.2.3", "fd00::5"], True),
        (["100.64.3.2"], True),
        (["fe80::1%eth0"], True),
        (["9.8.7.6"], False),
        (["10.1.2.3", "9.8.7.6"], False),
        (["127.0.0.1"], False),
        ([], False),
    ],
)
def test_a_private_network_is_another_machines_and_has_no_public_address(
    addresses: list[str], private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "_resolved", lambda host: set(addresses))
    assert exposure.in_private_network("http://mlflow:5000") is private
