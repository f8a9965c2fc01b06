"""A hub on this machine: models and datasets at pinned revisions, asked for by huggingface_hub itself."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Hub(ThreadingHTTPServer):
    """Serves what lies in `root/OWNER/NAME/REVISION`."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0].removeprefix("/datasets").strip("/")
        if path.startswith("api/"):
            self.describe(*path.split("/")[2:])
        else:
            self.give(*path.split("/resolve/", 1))

    do_HEAD = do_GET

    def describe(self, owner: str = "", name: str = "", what: str = "", revision: str = "-", *below: str) -> None:
        """A revision with the names of its files, or the tree of them."""
        folder = self.server.root / owner / name / revision
        if not folder.is_dir() or below:
            self.refuse("EntryNotFound" if below else "RevisionNotFound")
            return
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        told: Any = {"id": f"{owner}/{name}", "sha": revision, "siblings": [{"rfilename": each} for each in files]}
        if what == "tree":
            sizes = {each: path.stat().st_size for each, path in files.items()}
            told = [{"type": "file", "path": each, "size": sizes[each], "oid": tag(files[each])} for each in files]
        self.say(200, json.dumps(told).encode())

    def give(self, repository: str, file: str = "") -> None:
        path = self.server.root / repository / file
        if path.is_file():
            self.say(200, path.read_bytes(), {"ETag": f'"{tag(path)}"', "X-Repo-Commit": file.split("/")[0]})
        else:
            self.refuse("EntryNotFound")

    def refuse(self, why: str) -> None:
        self.say(404, b"", {"X-Error-Code": why})

    def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is said on the terminal."""


def tag(path: Path) -> str:
    """What tells the content of a file from another."""
    return hashlib.sha1(path.read_bytes()).hexdigest()
