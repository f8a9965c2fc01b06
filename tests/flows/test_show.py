"""What Prefect's pages show of a run, when Prefect is away."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import show
from tasks.records import Checkpoint
from tests import makers

NOWHERE = "http://127.0.0.1:1/api"


def test_a_server_that_is_away_costs_the_run_its_page_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    trained = Checkpoint.of({}, parents=(), architecture="bert", parameters=7, steps=3, scores={"accuracy": 0.9})
    with temporary_settings({PREFECT_API_URL: NOWHERE}):
        show.training(makers.recipe(), trained)
    assert "the training of this run is not on Prefect's page" in caplog.text
