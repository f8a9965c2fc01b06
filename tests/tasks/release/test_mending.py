"""Each kind of drift is mended once, and what is right or alive is left alone."""

import os
import time
from pathlib import Path

import pytest

from infra.ledger import Ledger
from infra.settings import settings
from tasks import stages
from tasks.model.curves import registry
from tasks.release import mending

DAYS = 86_400


@pytest.fixture(autouse=True)
def short_leases(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "Ledger", lambda url: Ledger(url, expiry=0.5, renewal=0.1))


def ledger() -> Ledger:
    return Ledger(settings().ledger_url, expiry=0.5, renewal=0.1)


def status(run: str) -> str:
    return str(registry()._client.get_run(run).info.status)


def test_a_run_that_nobody_works_on_is_ended_and_one_that_somebody_does_is_not(mlflow_at_home: None) -> None:
    there = registry()
    dead, alive, foreign = (there.start("intent", f"sha256:{kind}", kind, {}) for kind in ("dead", "alive", "foreign"))
    there._client.delete_tag(foreign, "vernal.run_key")
    with ledger().lease("run:sha256:alive"):
        mended = list(mending.runs())
        assert [(each.what, each.which) for each in mended] == [("MLflow run", f"dead ({dead[:8]})")]
        assert (status(dead), status(alive), status(foreign)) == ("KILLED", "RUNNING", "RUNNING")
        assert list(mending.runs()) == []


def test_aliases_and_marks_follow_the_ledger(tmp_path: Path, mlflow_at_home: None) -> None:
    there = registry()
    run = there.start("intent", "sha256:one", "one", {})
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    for key in ("one", "two"):
        there.register("intent", key, run, tmp_path / "bundle", {"text": "text"}, {}, key)
    with ledger().lease("model:intent") as lease:
        for number in (1, 2):
            decision = ledger().decide(
                lease, model="intent", version=number, kind="promoted", key=str(number), body={"reasons": []}
            )
    there.point("intent", "champion", 1)
    there.point("intent", "challenger", 2)
    assert sorted(each.which for each in mending.pointers("intent")) == [
        "intent@challenger",
        "intent@champion",
        "intent@previous",
    ]
    assert there.aliases("intent") == {"champion": 2, "previous": 1}
    assert list(mending.pointers("intent")) == []
    assert mending.unrolled("intent") == decision
    with ledger().lease("model:intent") as lease:
        ledger().roll_out(lease, decision, {"golden": 1})
    assert mending.unrolled("intent") is None
    assert [each.what for each in mending.pointers("intent")] == ["mark"]
    assert there.tags("intent", 2)["vernal.deployable"] == f"decision {decision.id}"
    assert list(mending.pointers("intent")) == []


def test_what_was_left_half_made_is_removed_after_a_day() -> None:
    stored = stages.put(b"whole")
    blob = stages.open_file(stored)
    old, new = (blob.with_name(f"~{name}") for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"hal")
    os.utime(old, (time.time() - 2 * DAYS,) * 2)
    assert [each.which for each in mending.leftovers()] == [old.relative_to(settings().store_uri).as_posix()]
    assert (old.exists(), new.exists(), blob.exists()) == (False, True, True)
    assert list(mending.leftovers()) == []
