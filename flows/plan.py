"""What a run would do: the names of all stages, as far as they can be known, and which are there already.

A stage's name follows from the records it is made from, so the walk ends at the first stage that is not there. It
imports neither torch nor Prefect nor MLflow.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tasks import fits, stages
from tasks.data import sources
from tasks.model import bases
from tasks.recipe import Architecture, Own, Recipe
from tasks.records import Digest, Record, Verdict, digest_of

VERBS = ("ingest", "validate", "load", "tokenise", "finetune", "package", "evaluate", "register", "promote")

R = TypeVar("R", bound=Record)


@dataclass
class Plan:
    """The stages of a run by verb: their keys as far as they are known, and the records that are there."""

    run_key: Digest
    base: bases.Base
    parts: list[sources.Part]
    source: Digest  # of the rows' files, as they were when the walk began
    keys: dict[str, stages.Key[Any]] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return len(self.records) == len(VERBS)

    @property
    def verdict(self) -> Verdict | None:
        found = self.records.get("promote")
        return found if isinstance(found, Verdict) else None

    def find(self, key: stages.Key[R]) -> R | None:
        """The record of a stage, noted with its key."""
        self.keys[key.verb] = key
        record = stages.find(key)
        if record is not None:
            self.records[key.verb] = record
        return record


def config_of(recipe: Recipe, base: bases.Base) -> dict[str, Any] | None:
    """The config of the base; None: it is not here yet, or no JSON, which `load` has to say."""
    own = recipe.model.base
    if isinstance(own, Own):
        return {"model_type": fits.MODULE}
    if isinstance(own, Architecture):
        return own.model_dump() | {"model_type": fits.OURS}
    with suppress(ValueError):
        found = json.loads(base.read("config.json") or b"null")
        return found if isinstance(found, dict) else None
    return None


def walk(recipe: Recipe, beside: Path) -> Plan:
    """The plan of a recipe whose relative names are looked up in the folder `beside` first.

    Raises:
        BadInput, Missing: source or base cannot be found; E-MODEL-TASK, the base cannot answer the task.
    """
    parts, own = sources.resolve(recipe.data.source, beside), bases.resolve(recipe.model, beside)
    if config := config_of(recipe, own):
        fits.require(recipe.problem, recipe.task, config)
    source, model = sources.fingerprint(parts), own.fingerprint
    return follow(Plan(digest_of([recipe.digest, source, model]), own, parts, source), recipe)


def follow(plan: Plan, recipe: Recipe) -> Plan:
    """The plan with every stage that is there by now; of the same source and base, whatever stands there now."""
    task, model = recipe.task, plan.base.fingerprint
    snapshot = plan.find(stages.ingest(plan.source, task, recipe.data))
    checked = plan.find(stages.validate(snapshot, task, recipe.data, recipe.rules)) if snapshot else None
    base = plan.find(stages.load(model, recipe.model))
    if not (checked and base):
        return plan
    shards = plan.find(stages.tokenise(checked, base, task, recipe.tokens))
    trained = plan.find(stages.finetune(base, shards, task, recipe.train)) if shards else None
    if not (shards and trained):
        return plan
    bundle = plan.find(stages.package(trained, shards, checked, task, recipe.package))
    report = plan.find(stages.evaluate(bundle, checked, recipe.metric, recipe.exam)) if bundle else None
    if bundle and report and (version := plan.find(stages.register(recipe.name, bundle, report))):
        plan.find(stages.promote(version, checked, recipe.metric, recipe.gate))
    return plan
