"""What the doctor makes of a server's answer to somebody without a key."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from infra.storage import S3Bucket, behaviour


class Handler(BaseHTTPRequestHandler):
    """Takes every object; gives to whoever asks what `status` and `body` say, or nothing at all."""

    status, body = 200, b""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b"")

    def do_GET(self) -> None:
        assert "Authorization" not in self.headers
        if self.status:
            self.answer(self.status, self.body)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield S3Bucket("doctor", "", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"1", behaviour.OPEN),
        (200, b"<html>Log in, please", "whether anybody reads without a key is not known (something else came)"),
        (401, b"", "nobody reads without a key"),
        (403, b"", "nobody reads without a key"),
        (400, b"", "whether anybody reads without a key is not known (HTTP 400 came)"),
        (404, b"", "whether anybody reads without a key is not known (HTTP 404 came)"),
        (503, b"", "whether anybody reads without a key is not known (HTTP 503 came)"),
        (0, b"", "whether anybody reads without a key is not known (no answer came: RemoteDisconnected)"),
    ],
)
def test_only_a_refusal_is_closed_and_only_the_object_is_open(
    bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, told: str
) -> None:
    monkeypatch.setattr(Handler, "status", status)
    monkeypatch.setattr(Handler, "body", body)
    assert behaviour.anonymous(bucket) == told
