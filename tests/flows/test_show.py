"""What Prefect's pages show of a run, when Prefect is away."""

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import page, plan, show
from tasks import patience
from tasks.errors import Unreachable
from tasks.model import bases
from tasks.records import Checkpoint, Verdict
from tests import makers

NOWHERE = "http://127.0.0.1:1/api"


def test_a_server_that_is_away_costs_the_run_its_page_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    trained = Checkpoint.of({}, parents=(), architecture="bert", parameters=7, steps=3, scores={"accuracy": 0.9})
    with temporary_settings({PREFECT_API_URL: NOWHERE}):
        show.training(makers.recipe(), trained)
    assert "the training of this run is not on Prefect's page" in caplog.text


def test_a_store_that_is_away_after_the_verdict_costs_the_run_its_page_and_nothing_else(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> plan.Plan:
        raise Unreachable("E-S3-UNAVAILABLE", "no answer")

    monkeypatch.setattr(patience, "PAUSES", ())
    monkeypatch.setattr(plan, "follow", away)
    monkeypatch.setattr(page, "_in_registry", lambda verdict: {"MLflow version": "there"})
    recipe = makers.recipe()
    run = plan.Plan("sha256:1", bases.resolve(recipe.model, home), [], "sha256:2")
    none = dict.fromkeys(("champion", "gain", "low", "high"))
    verdict = Verdict.of({}, name="tiny", version=1, promoted=True, metric="accuracy", reasons=("first",), **none)
    assert page.publish(recipe, run, verdict, {"Prefect run": "here"}) == {
        "Prefect run": "here",
        "MLflow version": "there",
    }
    assert "the page of this run is not everywhere it should be" in caplog.text
