"""From a report to the champion's place and back: once each, through the gate, the registry following the ledger."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from infra.ledger import Ledger
from infra.settings import settings
from tasks import recipe, stages
from tasks.errors import BadInput, Coded
from tasks.model import bases
from tasks.model.curves import registry
from tasks.model.evaluate import evaluate
from tasks.model.load import load
from tasks.model.package import package
from tasks.records import Verdict, Version
from tasks.release import aliases, card
from tasks.release.promote import by_hand, promote
from tasks.release.register import register
from tests import makers

WEAK = {"epochs": 1, "batch": 16, "max_rows": 16, "learning_rate": 1e-3, "precision": "fp32"}


@dataclass(frozen=True)
class Models:
    """A weak model, its twin in another bundle, and a strong one."""

    weak: makers.Made
    twin: makers.Made
    strong: makers.Made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    home = tmp_path_factory.mktemp("release") / "home"
    with makers.at_home(home):
        weak = makers.made(home, makers.recipe(train=WEAK))
        package_of_twin = weak.recipe.package.model_copy(update={"golden": 3})
        bundle = package.fn(weak.trained, weak.shards, weak.checked, weak.recipe.task, package_of_twin)
        report = evaluate.fn(bundle, weak.checked, weak.recipe.metric, weak.recipe.exam)
        twin_recipe = weak.recipe.model_copy(update={"package": package_of_twin})
        return Models(
            weak, replace(weak, recipe=twin_recipe, bundle=bundle, report=report), makers.made(home, makers.recipe())
        )


@pytest.fixture(autouse=True)
def at_home(home: Path, models: Models) -> Iterator[None]:
    """All tests share a home with its registry; each has a model name of its own."""
    with makers.at_home(models.weak.home, mlflow=f"sqlite:///{models.weak.home}/mlflow.db"):
        yield


def registered(made: makers.Made, name: str) -> tuple[Version, recipe.Recipe]:
    """The version of a made model under `name`."""
    what = recipe.Recipe.model_validate({**made.recipe.model_dump(), "name": name})
    version = register.fn(what, made.checked, made.trained, made.bundle, made.report, f"sha256:{what.digest[7:]}")
    return version, what


def judged(made: makers.Made, name: str, **gate: Any) -> Verdict:
    """The verdict on a made model under `name`."""
    version, what = registered(made, name)
    how = what.gate.model_copy(update=gate)
    return promote.fn(version, made.checked, what.task, what.metric, how)


def pointed(name: str) -> dict[str, int]:
    return registry().aliases(name)


def ledger() -> Ledger:
    return Ledger(settings().ledger_url)


def test_registering_twice_gives_one_version(models: Models) -> None:
    first, _ = registered(models.weak, "twice")
    again, what = registered(models.weak, "twice")
    assert first == again
    assert first.number == 1
    with stages.workplace("again") as folder:  # as after a kill before the manifest was written
        from tasks.release.register import enter

        made = models.weak
        key = stages.register("twice", made.bundle, made.report).digest
        third = enter(folder, key, what, made.checked, made.trained, made.bundle, made.report, what.digest)
    assert third == first
    assert registered(models.strong, "twice")[0].number == 2
    assert pointed("twice") == {"challenger": 2}
    tags = registry().tags("twice", 1)
    assert tags["vernal.bundle"] == models.weak.bundle.digest
    assert tags["vernal.report"] == models.weak.report.digest


def test_the_way_of_three_versions_and_back(models: Models) -> None:
    name = "way"
    first = judged(models.weak, name)
    assert (first.promoted, first.champion, first.reasons) == (True, None, ("there is no champion yet",))
    assert pointed(name) == {"champion": 1}

    twin = judged(models.twin, name)
    assert (twin.promoted, twin.version, twin.champion, twin.gain, twin.low) == (False, 2, 1, 0.0, 0.0)
    assert twin.reasons[0].startswith("not proved better")
    assert pointed(name) == {"champion": 1, "challenger": 2}

    strong = judged(models.strong, name)
    assert (strong.promoted, strong.version, strong.champion) == (True, 3, 1)
    expected = models.strong.report.scores["macro_f1"] - models.weak.report.scores["macro_f1"]
    assert strong.gain == pytest.approx(expected)
    assert strong.low is not None
    assert 0 < strong.low < expected
    assert pointed(name) == {"champion": 3, "previous": 1}

    assert aliases.rollback(name) == (3, 1)
    assert pointed(name) == {"champion": 1, "previous": 3}
    assert aliases.rollback(name) == (1, 3)
    assert pointed(name) == {"champion": 3, "previous": 1}

    weak = by_hand(name, 1)
    assert (weak.promoted, weak.champion) == (False, 3)
    assert weak.reasons[0].startswith("not proved better")
    kinds = [(each.kind, each.version) for each in ledger().decisions(name)]
    assert kinds == [
        ("promoted", 1),
        ("refused", 2),
        ("promoted", 3),
        ("rolled-back", 1),
        ("rolled-back", 3),
        ("refused", 1),
    ]
    assert ledger().champion(name) == 3
    tags = registry().tags(name, 2)
    assert tags["vernal.verdict"] == "refused"
    assert tags["vernal.reason"] == twin.reasons[0]


def test_a_verdict_is_given_once_and_found_again(models: Models) -> None:
    first = judged(models.weak, "once")
    assert judged(models.weak, "once") == first
    version, what = registered(models.weak, "once")
    key = stages.promote(version, models.weak.checked, what.metric, what.gate)
    stages.artifacts().delete_manifest(key.name)  # as after a kill between the ledger and the manifest
    assert judged(models.weak, "once") == first
    assert len(ledger().decisions("once")) == 1


def test_aliases_that_were_lost_come_back_from_the_ledger(models: Models) -> None:
    judged(models.weak, "lost")
    judged(models.strong, "lost")
    registry().point("lost", "champion", 1)
    registry().unpoint("lost", "previous")
    aliases.project(ledger(), "lost")
    assert pointed("lost") == {"champion": 2, "previous": 1}


def test_by_hand_a_better_version_goes_through_the_same_gate(models: Models) -> None:
    judged(models.weak, "hand")
    version, _ = registered(models.strong, "hand")
    found = by_hand("hand", version.number)
    assert found.promoted
    assert found.reasons[0].startswith("proved better")
    assert pointed("hand")["champion"] == 2
    again = by_hand("hand", version.number)
    assert again.reasons == ("it is the champion already",)
    assert [each.kind for each in ledger().decisions("hand")] == ["promoted", "promoted", "promoted"]


def test_a_champion_that_breaks_a_new_floor_is_told_so_by_hand(models: Models) -> None:
    strict = models.weak.recipe.model_copy(update={"gate": recipe.Gate(floors={"accuracy": 0.99})})
    made = replace(models.weak, recipe=strict)
    judged(made, "floor", floors={})
    found = by_hand("floor", 1)
    assert not found.promoted
    accuracy = models.weak.report.scores["accuracy"]
    assert found.reasons == ("it is the champion already", f"accuracy is {accuracy:.4f} < 0.99")
    assert ledger().champion("floor") == 1


def test_there_is_nothing_to_go_back_to_from_the_first_champion(models: Models) -> None:
    for known in (False, True):
        if known:
            judged(models.weak, "alone")
        with pytest.raises(BadInput) as caught:
            aliases.rollback("alone")
        assert caught.value.code == "E-NO-PREVIOUS"
    assert pointed("alone") == {"champion": 1}


def test_a_version_that_is_not_there_is_not_promoted() -> None:
    with pytest.raises(Coded) as caught:
        by_hand("nobody", 7)
    assert caught.value.code == "E-REG-MISSING"


@pytest.mark.parametrize(("reference", "number"), [("champion", 2), ("previous", 1), ("1", 1), ("2", 2)])
def test_a_version_is_a_base_for_the_next(models: Models, reference: str, number: int) -> None:
    judged(models.weak, "next")
    judged(models.strong, "next")
    found = load.fn(recipe.Model(base=f"registry://next@{reference}"), "")
    made = {1: models.weak, 2: models.strong}[number]
    assert found.files["model.safetensors"] == made.bundle.files["model.safetensors"]
    assert found.parents == (made.bundle.digest,)
    assert found.parameters == made.trained.parameters
    assert bases.resolve(recipe.Model(base=f"registry://next@{reference}"), Path()).name == f"registry://next@{number}"


def sections(markdown: str) -> dict[str, str]:
    """Heading -> what stands below it."""
    parts = re.split(r"^#+ (.+)$", markdown, flags=re.MULTILINE)
    return {heading: text.strip() for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_a_card_has_no_empty_section(models: Models, kind: str) -> None:
    made: makers.Made = getattr(models, kind)
    version, what = registered(made, "card")
    written = stages.artifacts().read(version.files["card.md"].digest).decode()
    found = sections(written)
    assert list(found) == [
        f"card, version {version.number}",
        "What it does",
        "Data",
        "Training",
        "Results",
        "Limits",
        "Lineage",
        "Use and withdrawal",
    ]
    assert all(found.values())
    assert "{{" not in written
    assert "None" not in written
    assert not re.search(r"[:|]\s*$", found["Training"] + found["Limits"])
    assert (
        f"macro_f1 **{made.report.scores['macro_f1']:.4f}** on 101 test rows"
        in found[f"card, version {version.number}"]
    )
    for digest in (what.digest, made.checked.digest, made.trained.digest, made.bundle.digest, made.report.digest):
        assert digest in found["Lineage"]
    for rows in made.checked.rows.values():
        assert f"| {rows} |" in found["Data"]
    for label in made.checked.labels:
        assert label in found["What it does"]
    assert "Labels: billing, delivery, praise." in found["What it does"]


def test_a_card_names_the_weakest_classes_first(models: Models) -> None:
    made = models.strong
    text = card.write(made.recipe, 1, made.checked, made.trained, made.bundle, made.report)
    line = next(line for line in text.splitlines() if line.startswith("- Weakest classes"))
    values = [float(value) for value in re.findall(r"\((\d\.\d+)\)", line)]
    assert values == sorted(values)
    assert len(values) == 3
