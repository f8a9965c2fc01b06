"""TLS in front of a plain server, as an ingress puts it there, with a certificate of one day."""

import asyncio
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, and its key."""
    made, key = folder / "server.crt", folder / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


class Ingress:
    """Takes TLS connections at `port` and passes what comes in them to a plain server, and back."""

    def __init__(self, server: int, certificate: Path, key: Path) -> None:
        self.port = 0
        self._server = server
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _listen(self) -> int:
        listener = await asyncio.start_server(self._carry, "127.0.0.1", 0, ssl=self._context)
        return int(listener.sockets[0].getsockname()[1])

    async def _carry(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        server, request = await asyncio.open_connection("127.0.0.1", self._server)
        await asyncio.gather(_pump(client, request), _pump(server, answer))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()
