"""What the doctor says where servers are not what they are taken for."""

import socket
import threading
from collections.abc import Iterator
from http.client import BadStatusLine, InvalidURL
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flows import doctor
from infra.settings import settings


class Stranger(BaseHTTPRequestHandler):
    """Answers everything by an empty object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that is not Prefect's, where Prefect's is looked for."""
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        yield url
        server.shutdown()


def test_an_answer_that_nobody_foresaw_ends_one_check_and_not_the_others(stranger: str, mlflow_at_home: None) -> None:
    found = {each["check"]: each for each in doctor.examine()}
    assert list(found)[-3:] == ["orchestrator", "exposure", "telemetry"]
    assert found["telemetry"]["found"].startswith("E-DOCTOR KeyError 'server': ")
    assert "address in the settings" in found["telemetry"]["found"]
    assert [name for name, each in found.items() if each["exit_code"]] == ["orchestrator", "telemetry"]


@pytest.mark.parametrize(
    "met",
    [BadStatusLine("SSH-2.0-OpenSSH"), InvalidURL("no port in //me:hunter2@host:x/"), socket.gaierror(-2, "who?")],
)
def test_whatever_a_check_meets_is_its_failure_in_one_line_without_a_password(met: Exception) -> None:
    def check() -> str:
        raise met

    found = doctor._result(check)
    assert (found["check"], found["exit_code"]) == ("check", 2)
    assert found["found"].startswith(f"E-DOCTOR {type(met).__name__} ")
    assert "hunter2" not in found["found"]


def test_an_address_that_is_none_ends_no_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:x/api")
    for check in (doctor.orchestrator, doctor.exposure, doctor.telemetry):
        assert doctor._result(check)["found"].startswith("E-DOCTOR ")


@pytest.mark.parametrize(("private", "code"), [(True, 0), (False, 2)])
def test_what_is_open_inside_a_private_network_is_told_and_is_no_fault(
    private: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the MLflow of compose.yaml is for the containers beside it."""
    monkeypatch.setenv("VERNAL_MLFLOW", "http://me:hunter2@mlflow:5000")
    settings.cache_clear()
    monkeypatch.setattr(doctor, "_prefect", lambda: "")
    monkeypatch.setattr(doctor, "open_to_others", lambda url, path: ["mlflow"])
    monkeypatch.setattr(doctor, "in_private_network", lambda url: private)
    found = doctor._result(doctor.exposure)
    assert found["exit_code"] == code
    assert found["found"].startswith("1 servers; whoever is in" if private else "E-EXPOSED http://mlflow:5000 answers")
    assert "http://mlflow:5000" in found["found"]
