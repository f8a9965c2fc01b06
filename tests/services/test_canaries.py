"""Secrets of a stack on which runs went all their ways: they stand where they have to, and nowhere else."""

import base64
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as parquet
import pytest
from sqlalchemy import create_engine, inspect, make_url, text

from infra.storage import S3Bucket
from tests.services.scheduled import HOOK, HUB, Scheduled

pytestmark = pytest.mark.services

PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd")  # gzip, zip, zstandard: nothing may hide in them unseen
PRIVATE = ("environment", "postgres", "s3", "prefect.password")  # of the stack's folder; `test_stack` sees them closed


@pytest.fixture
def canaries(ran: Scheduled) -> dict[str, list[bytes]]:
    """Each secret in every spelling in which it travels."""
    values = ran.stack.environment
    login = values["PREFECT_API_AUTH_STRING"]
    secrets = {
        "PostgreSQL": [str(make_url(values["VERNAL_LEDGER"]).password)],
        "S3": [values["AWS_SECRET_ACCESS_KEY"]],
        "Prefect": [login.split(":", 1)[1], base64.b64encode(login.encode()).decode()],
        "hub": [HUB],
        "webhook": [HOOK],
    }
    assert all(len(each) > 15 for spellings in secrets.values() for each in spellings)
    return {name: [s.encode() for each in found for s in {each, quote(each, "")}] for name, found in secrets.items()}


def found(canaries: dict[str, list[bytes]], places: Iterator[tuple[str, bytes]]) -> list[str]:
    """Where a secret stands that should not; what is no secret is found there."""
    looked, traitors = False, list[str]()
    for place, content in places:
        looked = looked or b"quickstart" in content
        traitors += [f"{name} in {place}" for name, each in canaries.items() if any(s in content for s in each)]
    assert looked
    return traitors


def test_no_secret_is_in_a_row_of_a_database(ran: Scheduled, canaries: dict[str, list[bytes]]) -> None:
    own = make_url(ran.stack.environment["VERNAL_LEDGER"]).set(drivername="postgresql+psycopg2")

    def rows() -> Iterator[tuple[str, bytes]]:
        with create_engine(own).connect() as connection:
            databases = connection.scalars(text("SELECT datname FROM pg_database WHERE NOT datistemplate")).all()
        assert {"prefect", "mlflow"} < set(databases)
        for database in databases:
            engine = create_engine(own.set(database=database))
            with engine.connect() as connection:
                for table in inspect(engine).get_table_names():
                    # a row as text; what stands there as bytes is spelled in hexadecimal digits
                    content = "\n".join(connection.scalars(text(f'SELECT t::text FROM "{table}" t')))
                    yield f"{database}.{table}", content.encode()
            engine.dispose()

    spelled = {name: [*each, *(s.hex().encode() for s in each)] for name, each in canaries.items()}
    assert found(spelled, rows()) == []


def test_no_secret_is_in_an_object_of_the_store_or_of_mlflow(
    ran: Scheduled, canaries: dict[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ran.stack.environment
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, values[name])
    bucket = S3Bucket("vernal", "", values["VERNAL_S3_ENDPOINT"])

    def objects() -> Iterator[tuple[str, bytes]]:
        for name in bucket.names():
            content = bucket.read(name)
            assert not content.startswith(PACKED), f"{name} is packed"
            if content.startswith(b"PAR1"):
                content += str(parquet.read_table(io.BytesIO(content)).to_pylist()).encode()
            yield name, content

    assert found(canaries, objects()) == []


def test_no_secret_is_in_a_log_or_a_page_or_any_other_file(ran: Scheduled, canaries: dict[str, list[bytes]]) -> None:
    home = ran.stack.home.parent

    def files() -> Iterator[tuple[str, bytes]]:
        for path in home.rglob("*"):
            name = path.relative_to(home)
            if path.is_file() and not (name.parts[0] == "stack" and name.parts[1] in PRIVATE):
                with suppress(FileNotFoundError):  # the servers go on
                    yield str(name), path.read_bytes()

    names = {name for name, _ in files()}
    assert {"stack/log/worker.log", "stack/log/prefect.log", "stack/log/mlflow.log"} <= names
    assert {str(Path(each["report"]).relative_to(home)) for each in (ran.first, ran.second)} <= names
    assert found(canaries, files()) == []


def test_no_secret_was_in_a_command_line_while_it_ran(ran: Scheduled, canaries: dict[str, list[bytes]]) -> None:
    assert any(b"prefect.engine" in command for command in ran.commands), "the worker's run is seen"
    assert found(canaries, ((repr(command), command) for command in ran.commands)) == []
