"""The local S3 server as `vernal up` uses it: across processes, kills and restarts."""

import os
import signal
import socket
from pathlib import Path

import pytest

from infra.errors import Denied, Unreachable
from infra.local.s3 import DAEMONS, LocalS3
from infra.storage import S3Bucket

pytestmark = pytest.mark.services


@pytest.fixture
def home(s3_server: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    return tmp_path / "home"


def over(home: Path, s3_server: LocalS3, port: int = 0) -> LocalS3:
    """A server over `home`, as a new process would know it."""
    return LocalS3(home, port, s3_server.environment)


def bucket_of(server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    return S3Bucket("kept", "", server.endpoint)


def test_starting_twice_is_one_start_and_anyone_may_stop(s3_server: LocalS3, home: Path) -> None:
    with over(home, s3_server) as first:
        assert first.endpoint != s3_server.endpoint
        assert over(home, s3_server).start().endpoint == first.endpoint
        over(home, s3_server).stop()
        assert not first.running
    assert s3_server.running


def test_data_and_keys_outlive_a_kill_of_the_server(
    s3_server: LocalS3, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with over(home, s3_server) as first:
        bucket = bucket_of(first, monkeypatch)
        bucket.create()
        bucket.write("name", b"abc")
        for daemon in DAEMONS:
            os.kill(int((home / "run" / f"{daemon}.pid").read_text()), signal.SIGKILL)
        with pytest.raises(Unreachable, match="E-S3-UNAVAILABLE"):
            bucket.read("name")
    with over(home, s3_server) as second:
        assert bucket_of(second, monkeypatch).read("name") == b"abc"


def test_every_home_has_its_own_secret_that_nobody_else_may_read(
    s3_server: LocalS3, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = over(home, s3_server)
    assert other.secret_key != s3_server.secret_key
    assert (home / "secret").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", other.secret_key)
    with pytest.raises(Denied, match="E-S3-AUTH"):
        S3Bucket("kept", "", s3_server.endpoint).read("name")


def test_a_port_in_use_is_told(s3_server: LocalS3, home: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(Unreachable, match=f"E-S3-START .* port {listener.getsockname()[1]}: .*"),
    ):
        over(home, s3_server, listener.getsockname()[1]).start()
    assert not over(home, s3_server).running


def test_a_foreign_process_under_an_old_pid_is_left_alone(s3_server: LocalS3, home: Path) -> None:
    (home / "run").mkdir(parents=True)
    for daemon in DAEMONS:
        (home / "run" / f"{daemon}.pid").write_text(str(os.getpid()))
    over(home, s3_server).stop()


def test_an_install_without_an_index_is_told_and_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    server = LocalS3(tmp_path / "home")
    for _ in range(2):
        with pytest.raises(Unreachable, match=r"E-S3-INSTALL .*swift==2\.38\.3"):
            server.install()
