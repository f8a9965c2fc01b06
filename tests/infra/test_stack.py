"""Commands and the stack: its file is used while it is up, gives way to the environment, and is missed in one line."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.__main__ import main
from infra.errors import Unreachable
from infra.local.private import write_privately
from infra.local.stack import Stack, local
from infra.settings import overruled, settings

ROOT = Path(__file__).parents[2]
VALUES = {"VERNAL_STORE": "s3://vernal/store", "PREFECT_API_URL": "http://127.0.0.1:1/api"}


@pytest.fixture
def stack(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack that is up as far as its file tells."""
    for name in VALUES:
        monkeypatch.delenv(name, raising=False)
    stack = Stack(home / "stack")
    stack.home.mkdir(parents=True)
    write_privately(stack.file, "".join(f"{name}={value}\n" for name, value in VALUES.items()))
    yield stack
    for name in VALUES:
        os.environ.pop(name, None)


@pytest.fixture
def watched(stack: Stack) -> Iterator[Stack]:
    """And watched: another process holds its lock."""
    holds = (
        "import sys; from pathlib import Path; from infra.local.supervisor import claim\n"
        "print(claim(Path(sys.argv[1])), flush=True); input()\n"
    )
    command = [sys.executable, "-c", holds, str(stack.home / "supervisor")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == b"True\n"
        yield stack
        holder.stdin.write(b"\n")


def test_what_a_private_file_holds_only_its_owner_may_read(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_privately(tmp_path / "secret", "one")
        write_privately(tmp_path / "secret", "two")
    finally:
        os.umask(before)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secret").read_text() == "two"
    assert list(tmp_path.iterdir()) == [tmp_path / "secret"]


def test_a_command_uses_the_stack_while_it_is_up(watched: Stack) -> None:
    local().join()
    assert settings().store_uri == "s3://vernal/store"
    assert os.environ["PREFECT_API_URL"] == VALUES["PREFECT_API_URL"]


def test_what_the_user_set_wins_and_is_named(watched: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERNAL_STORE", "s3://mine")
    local().join()
    assert settings().store_uri == "s3://mine"
    assert overruled(watched.environment) == ["VERNAL_STORE"]


def test_without_a_stack_commands_are_embedded(home: Path) -> None:
    local().join()
    assert settings().store_uri == str(home / "store")
    assert not home.exists()


def test_a_stack_that_ended_untold_is_an_error_that_says_what_to_do(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "flows/recipes/quickstart.yaml"]) == Unreachable.exit_code
    told = capsys.readouterr().err
    assert told.startswith("E-STACK-DOWN")
    assert "`vernal up`" in told
    assert "`vernal down`" in told
    assert main(["status"]) == Unreachable.exit_code
    assert main(["down"]) == 0
    assert main(["status"]) == 0
    assert not stack.file.exists()


def test_a_configured_port_that_is_taken_is_told_before_anything_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("VERNAL_STACK_PORTS", f'{{"prefect": {port}}}')
        settings.cache_clear()
        assert main(["up"]) == Unreachable.exit_code
    assert capsys.readouterr().err.startswith(f"E-STACK-PORT port {port} of prefect is taken")
    assert not (home / "stack" / "supervisor").exists()
