"""Answers of an S3 server that were damaged on their way: asked for again, and given up with a code."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from infra.errors import Unreachable
from infra.storage import S3Bucket

WHOLE = {"Content-Length": "7", "ETag": '"1"'}
LACKING = {"Contemt-Length": "7", "ETag": '"1"'}
NO_NUMBER = {"Content-Length": "7", "ETag": '"1"', "x-amz-missing-meta": "seven"}


@contextmanager
def serving(*answers: dict[str, str]) -> Iterator[str]:
    """A server that gives these headers one after the other, and the last for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            for name, value in (left.pop(0) if len(left) > 1 else left[0]).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is said on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr("infra.storage.s3._pause", lambda tried: 0.0)


@pytest.mark.parametrize("damaged", [LACKING, NO_NUMBER])
def test_an_answer_that_lacks_what_it_has_to_say_or_says_no_number_is_asked_for_again(damaged: dict[str, str]) -> None:
    with serving(damaged, WHOLE) as endpoint:
        assert S3Bucket("bucket", "", endpoint).size("name") == 7


@pytest.mark.parametrize("damaged", [LACKING, NO_NUMBER])
def test_a_server_that_always_answers_so_is_given_up_with_a_code(damaged: dict[str, str]) -> None:
    with serving(damaged) as endpoint, pytest.raises(Unreachable, match="E-S3-UNAVAILABLE"):
        S3Bucket("bucket", "", endpoint).size("name")
