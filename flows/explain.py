"""Why a version is live, and from what it was made: lineage and decisions on one page.

Lineage is a walk over the records' `parents`; what changed since the version before is told by digests alone.
"""

from typing import Any

from infra.ledger import Decision, Ledger, Request, Rollout
from infra.settings import settings
from tasks import stages
from tasks.errors import BadInput
from tasks.model import bases
from tasks.recipe import Recipe
from tasks.records import Bundle, Checked, Checkpoint, Record, Report, Shards, Snapshot, Version

ROWS = ("ingest", "validate", "load", "tokenise", "finetune", "package", "evaluate", "register")


def explain(reference: str) -> dict[str, Any]:
    """The page of NAME, NAME@alias or NAME@number as plain values.

    Raises:
        BadInput: E-REG-MISSING, there is no such model or version.
    """
    version = version_of(reference)
    name = version.name
    ledger = Ledger(settings().ledger_url)
    decisions = ledger.decisions(name)
    numbers = numbers_of(name)
    made_from = lineage(version)
    before = bases.registered(name, max((each for each in numbers if each < version.number), default=None))
    return {
        "name": name,
        "version": version.number,
        "champion": ledger.champion(name),
        "previous": ledger.previous(name),
        "versions": numbers,
        "lineage": {verb: record.digest for verb, record in made_from.items()},
        "inputs": inputs(made_from["ingest"]),
        "computed": computed(made_from["finetune"]),
        "rows": made_from["validate"].rows if isinstance(made_from["validate"], Checked) else {},
        "scores": made_from["evaluate"].scores if isinstance(made_from["evaluate"], Report) else {},
        "compared_with": before.number if before else None,
        "changed": changed(before, version) if before else {},
        "waiting": [_waiting(each) for each in ledger.asked(name) if each.version == version.number],
        "decisions": [_decision(each) for each in decisions if each.version == version.number],
        "rollouts": [_rollout(each) for each in ledger.rollouts(name) if each.version == version.number],
    }


def version_of(reference: str) -> Version:
    """The version that NAME, NAME@alias or NAME@number names.

    Raises:
        BadInput: E-REG-MISSING, there is no such model or version.
    """
    name, _, which = reference.partition("@")
    ledger = Ledger(settings().ledger_url)
    aliases = {"champion": ledger.champion(name), "previous": ledger.previous(name)}
    version = bases.registered(name, int(which) if which.isdigit() else aliases.get(which or "champion"))
    if version is None:
        numbers = ", ".join(map(str, numbers_of(name)))
        known = f"versions {numbers}" if numbers else "no versions of it"
        raise BadInput("E-REG-MISSING", f"{reference}: not found; there are {known}, champion {aliases['champion']}")
    return version


def numbers_of(name: str) -> list[int]:
    """The numbers of all versions of a model."""
    return sorted(each.number for each in stages.every("register", Version) if each.name == name)


def inputs(snapshot: Record) -> dict[str, str]:
    """The source files of a Snapshot with their fingerprints."""
    return snapshot.inputs if isinstance(snapshot, Snapshot) else {}


def computed(trained: Record) -> str:
    """How a Checkpoint was computed."""
    return trained.computed if isinstance(trained, Checkpoint) else ""


def lineage(version: Version) -> dict[str, Record]:
    """The records that a version was made from, by verb."""
    report = stages.by_digest("evaluate", Report, version.report)
    bundle = stages.by_digest("package", Bundle, version.bundle)
    trained = stages.by_digest("finetune", Checkpoint, bundle.parents[0])
    shards = stages.by_digest("tokenise", Shards, bundle.parents[1])
    checked = stages.by_digest("validate", Checked, bundle.parents[2])
    base = stages.by_digest("load", Checkpoint, trained.parents[0])
    snapshot = stages.by_digest("ingest", Snapshot, checked.parents[0])
    return dict(zip(ROWS, (snapshot, checked, base, shards, trained, bundle, report, version), strict=True))


def changed(before: Version, after: Version) -> dict[str, Any]:
    """What differs between two versions: digests by verb, source files, and dials of the recipe."""
    old, new = lineage(before), lineage(after)
    digests = {
        verb: {"before": old[verb].digest, "after": new[verb].digest}
        for verb in ROWS
        if old[verb].digest != new[verb].digest
    }
    a, b = inputs(old["ingest"]), inputs(new["ingest"])
    files = sorted(name for name in {*a, *b} if a.get(name) != b.get(name))
    return {"digests": digests, "inputs": files, "dials": _dials(recipe_of(before), recipe_of(after))}


def recipe_of(version: Version) -> Recipe:
    """The recipe that a version was registered with."""
    return Recipe.model_validate_json(stages.artifacts().read(version.files["recipe.json"].digest))


def as_text(page: dict[str, Any]) -> str:
    """The page for people."""
    live = "the champion" if page["champion"] == page["version"] else f"not live (champion is {page['champion']})"
    lines = [f"{page['name']} version {page['version']}: {live}; previous {page['previous'] or 'none'}", ""]
    for each in sorted([*page["decisions"], *page["rollouts"]], key=lambda each: str(each["at"])):
        lines.append(f"  {each['at'][:19]}  {each['kind']}: {each['why']}")
    lines += [f"  waits for approval until {each['until'][:19]}: {each['why']}" for each in page["waiting"]]
    lines += ["", "  made from"]
    changed_digests = page["changed"].get("digests", {})
    for verb, digest in page["lineage"].items():
        mark = f"   changed since version {page['compared_with']}" if verb in changed_digests else ""
        lines.append(f"    {verb:<10} {digest[7:19]}{mark}")
    lines += [f"    source     {name}  {value[:19]}" for name, value in page["inputs"].items()]
    for name in page["changed"].get("inputs", []):
        lines.append(f"    source file {name} changed since version {page['compared_with']}")
    for name, (old, new) in page["changed"].get("dials", {}).items():
        lines.append(f"    {name}: {old} -> {new}")
    lines += ["", f"  trained {page['computed']}"]
    rows = "  ".join(f"{split} {count:,}" for split, count in sorted(page["rows"].items(), key=lambda each: -each[1]))
    scores = "  ".join(f"{name} {value:.4f}" for name, value in page["scores"].items())
    return "\n".join([*lines, f"  rows    {rows}", f"  test    {scores}"])


def _dials(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    a, b = _flat(old.content), _flat(new.content)
    return {name: (a.get(name), b.get(name)) for name in sorted({*a, *b}) if a.get(name) != b.get(name)}


def _flat(value: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {place: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{place}.{key}".lstrip("."))
    return flat


def _rollout(rollout: Rollout) -> dict[str, Any]:
    why = f"read back, and answered {rollout.body.get('golden')} golden inputs"
    return {"at": rollout.at, "kind": "deployable", "version": rollout.version, "why": why}


def _waiting(asked: Request) -> dict[str, Any]:
    return {"until": asked.body["until"], "why": "; ".join(asked.body["verdict"]["reasons"])}


def _decision(decision: Decision) -> dict[str, Any]:
    body = decision.body
    why = "; ".join(body["reasons"]) if "reasons" in body else f"from version {body['from']} by hand"
    return {"at": str(decision.at), "kind": decision.kind, "version": decision.version, "why": why}
