"""From a live decision to a deployable version: once, only what answers as it was examined, only what is still live."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import explain
from infra.ledger import Decision, Kind, Ledger
from infra.settings import settings
from tasks import stages
from tasks.errors import Coded
from tasks.model.curves import registry
from tasks.records import Bundle, File, Version
from tasks.release.register import register
from tasks.release.rollout import rollout
from tests import makers


@pytest.fixture(autouse=True)
def at_home(home: Path, made: makers.Made) -> Iterator[None]:
    """All tests share a home with its registry; each has a model name of its own."""
    with makers.at_home(made.home, mlflow=f"sqlite:///{made.home}/mlflow.db"):
        yield


def ledger() -> Ledger:
    return Ledger(settings().ledger_url)


def registered(made: makers.Made, name: str) -> Version:
    what = made.recipe.model_copy(update={"name": name})
    return register.fn(what, made.checked, made.trained, made.bundle, made.report, f"sha256:{what.digest[7:]}")


def live(name: str, version: int, key: str = "one", kind: Kind = "promoted") -> Decision:
    with ledger().lease(f"model:{name}") as lease:
        return ledger().decide(lease, model=name, version=version, kind=kind, key=key, body={"reasons": []})


def changed(made: makers.Made, name: str, file: str, content: bytes) -> Version:
    """A version whose bundle has another content in one of its files, as the store and its digests have it."""
    stored = stages.put(content)
    files = {**made.bundle.files, file: File(digest=stored.digest, size=stored.size)}
    fields = made.bundle.model_dump(exclude={"digest", "files"}) | {"bytes_total": len(content)}
    bundle = Bundle.of(files, **fields)
    stages.artifacts().write_manifest(f"package/{name}", {"record": bundle.model_dump(mode="json")})
    kept = made.report.digest
    version = Version.of({}, parents=(bundle.digest, kept), name=name, number=1, bundle=bundle.digest, report=kept)
    stages.artifacts().write_manifest(f"register/{name}", {"record": version.model_dump(mode="json")})
    return version


def test_a_live_version_is_marked_once_in_the_ledger_and_shown_in_the_registry(made: makers.Made) -> None:
    version = registered(made, "live")
    decision = live("live", version.number)
    marked = rollout.fn("live", version.number, decision.id)
    assert marked
    assert marked.body == {"bundle": made.bundle.digest, "golden": 8}
    assert "deployable: read back, and answered 8 golden inputs" in explain.as_text(explain.explain("live"))
    registry().tag("live", version.number, "vernal.deployable", "lost")
    assert rollout.fn("live", version.number, decision.id) == marked
    assert ledger().rollouts("live") == [marked]
    assert registry().tags("live", version.number)["vernal.deployable"] == f"decision {decision.id}"


def test_what_a_later_decision_took_back_is_not_marked(made: makers.Made) -> None:
    registered(made, "late")
    first, second = live("late", 1), live("late", 2, "two")
    assert rollout.fn("late", 1, first.id) is None
    assert ledger().rollouts("late") == []
    again = live("late", 1, "three", "rolled-back")
    assert rollout.fn("late", 1, again.id)
    assert rollout.fn("late", 2, second.id) is None


def test_a_bundle_that_answers_otherwise_than_it_was_examined_is_not_marked(made: makers.Made) -> None:
    description = json.loads(stages.artifacts().read(made.bundle.files["bundle.json"].digest))
    description["golden"][0]["score"] = 0.123
    changed(made, "other", "bundle.json", json.dumps(description).encode())
    decision = live("other", 1)
    with pytest.raises(Coded) as caught:
        rollout.fn("other", 1, decision.id)
    assert caught.value.code == "E-GOLDEN"
    assert ledger().rollouts("other") == []


def test_a_bundle_whose_bytes_were_damaged_in_the_store_is_not_marked(made: makers.Made) -> None:
    version = changed(made, "damaged", "extra.json", b'{"untouched": true}')
    bundle = stages.by_digest("package", Bundle, version.bundle)
    stored = stages.open_file(bundle.files["extra.json"])
    stored.chmod(0o644)
    stored.write_bytes(b'{"untouched": None}')
    decision = live("damaged", 1)
    with pytest.raises(Coded) as caught:
        rollout.fn("damaged", 1, decision.id)
    assert caught.value.code == "E-INTEGRITY"
    assert ledger().rollouts("damaged") == []


def test_a_decision_that_made_nothing_live_is_refused(made: makers.Made) -> None:
    refused = live("refused", 1, kind="refused")
    for version, decision in ((1, refused.id), (2, refused.id), (1, refused.id + 99)):
        with pytest.raises(Coded) as caught:
            rollout.fn("refused", version, decision)
        assert caught.value.code == "E-DECISION"
