"""What passed the gate waits for a person where the recipe says so: once, in time, against the right champion."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows import explain
from infra.ledger import Ledger
from infra.settings import settings
from tasks import recipe
from tasks.errors import Coded
from tasks.model.curves import registry
from tasks.model.evaluate import evaluate
from tasks.model.package import package
from tasks.records import Verdict, Version
from tasks.release import approval
from tasks.release import promote as gate
from tasks.release.register import register
from tests import makers


@pytest.fixture(autouse=True)
def at_home(home: Path, made: makers.Made) -> Iterator[None]:
    with makers.at_home(made.home, mlflow=f"sqlite:///{made.home}/mlflow.db"):
        yield


def ledger() -> Ledger:
    return Ledger(settings().ledger_url)


def registered(made: makers.Made, name: str) -> Version:
    what = made.recipe.model_copy(update={"name": name, "gate": recipe.Gate(approval=24)})
    return register.fn(what, made.checked, made.trained, made.bundle, made.report, f"sha256:{what.digest[7:]}")


def judged(made: makers.Made, version: Version, hours: float = 24) -> Verdict:
    how = recipe.Gate(approval=hours)
    return gate.promote.fn(version, made.checked, made.recipe.task, made.recipe.metric, how)


def code_of(name: str, *, approve: bool) -> str:
    with pytest.raises(Coded) as caught:
        approval.settle(name, 1, approve=approve)
    return caught.value.code


def test_a_gate_without_approval_has_the_digests_that_it_always_had() -> None:
    assert "approval" not in recipe.Gate().model_dump(mode="json")
    assert recipe.Gate(approval=24).model_dump(mode="json")["approval"] == 24


def test_what_passed_waits_is_shown_and_goes_live_when_a_person_approves(made: makers.Made) -> None:
    version = registered(made, "yes")
    verdict = judged(made, version)
    assert (verdict.pending, verdict.promoted) == (True, False)
    assert "vernal approve yes 1" in verdict.reasons[-1]
    assert judged(made, version) == verdict, "asked once, however often it is run"
    assert gate.by_hand("yes", 1) == verdict
    assert ledger().champion("yes") is None
    assert registry().aliases("yes") == {"challenger": 1}
    assert registry().tags("yes", 1)["vernal.verdict"] == "pending"
    page = explain.explain("yes@1")
    assert page["waiting"][0]["why"] == "there is no champion yet"
    assert "waits for approval until" in explain.as_text(page)

    decision = approval.settle("yes", 1, approve=True)
    assert (decision.kind, decision.version, decision.body["by"]) == ("promoted", 1, approval.person())
    assert registry().aliases("yes") == {"champion": 1}
    assert registry().tags("yes", 1)["vernal.verdict"] == "promoted"
    assert explain.explain("yes")["waiting"] == []
    assert code_of("yes", approve=True) == "E-APPROVAL-NONE"
    assert code_of("yes", approve=False) == "E-APPROVAL-NONE"
    after = judged(made, version)
    assert (after.promoted, after.pending) == (True, False)
    assert after.reasons[-1] == f"approved by {approval.person()}"
    assert len(ledger().decisions("yes")) == 1


def test_a_person_may_refuse_what_passed(made: makers.Made) -> None:
    version = registered(made, "no")
    judged(made, version)
    assert approval.settle("no", 1, approve=False).kind == "refused"
    assert ledger().champion("no") is None
    assert code_of("no", approve=True) == "E-APPROVAL-NONE"
    assert judged(made, version).reasons[-1] == f"refused by {approval.person()}"


def test_what_nobody_answered_in_time_is_refused_and_cannot_be_approved_any_more(
    made: makers.Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registered(made, "late")
    judged(made, version)
    assert approval.overdue("late") == []
    monkeypatch.setattr(gate, "datetime", InTwoDays)
    assert code_of("late", approve=True) == "E-APPROVAL-LATE"
    assert [each.kind for each in approval.overdue("late")] == ["refused"]
    assert approval.overdue("late") == []
    assert code_of("late", approve=True) == "E-APPROVAL-NONE"
    assert "nobody approved it until" in judged(made, version).reasons[-1]


class InTwoDays(datetime):
    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) + timedelta(days=2)


def test_who_is_approved_after_the_champion_changed_sits_the_exam_again(made: makers.Made) -> None:
    judged(made, registered(made, "changed"))
    fewer = made.recipe.package.model_copy(update={"golden": 3})
    bundle = package.fn(made.trained, made.shards, made.checked, made.recipe.task, fewer)
    report = evaluate.fn(bundle, made.checked, made.recipe.metric, made.recipe.exam)
    twin = made.recipe.model_copy(update={"name": "changed"})
    version = register.fn(twin, made.checked, made.trained, bundle, report, f"sha256:{'1' * 64}")
    with ledger().lease("model:changed") as lease:
        ledger().decide(lease, model="changed", version=version.number, kind="promoted", key="other", body={})
    decision = approval.settle("changed", 1, approve=True)
    assert decision.kind == "refused"
    assert decision.body["champion"] == version.number
    assert decision.body["reasons"][0].startswith("not proved better")
    assert ledger().champion("changed") == version.number
