"""The whole way: a recipe goes in, a verdict on a registered and examined model comes out.

Every task looks for its finished stage first, so a run that was killed, or is started again, goes on where it was.
"""

from contextlib import nullcontext
from pathlib import Path

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from flows import attempts, endings, page, plan, show
from flows.turn import alone, on_gpu
from tasks.data.ingest import ingest
from tasks.data.tokenise import tokenise
from tasks.data.validate import validate
from tasks.model.evaluate import evaluate
from tasks.model.finetune import finetune
from tasks.model.load import load
from tasks.model.package import package
from tasks.patience import patiently
from tasks.recipe import Received, Recipe
from tasks.records import Verdict
from tasks.release.promote import promote
from tasks.release.register import register


@flow(
    name="retrain",
    flow_run_name="{recipe.name}",
    persist_result=False,
    on_failure=[endings.close],
    on_crashed=[endings.close],
    on_cancellation=[endings.close],
)
def retrain(recipe: Received, beside: str = ".") -> State[Verdict]:
    """From the recipe's data to a verdict; relative names are looked up in the folder `beside` first."""
    attempts.bury_earlier()
    there = Path(beside)
    while True:
        run_key = patiently(lambda: plan.walk(recipe, there)).run_key
        with alone(run_key) if runtime.deployment.id else nullcontext():  # `vernal run` waits before it comes here
            found = patiently(lambda: plan.walk(recipe, there))
            if found.run_key != run_key:  # the source changed while we waited: another run, and another turn
                continue
            if found.finished and found.verdict:
                return endings.reused(found.verdict)
            return endings.judged(whole_way(recipe, beside, found))


def whole_way(recipe: Recipe, beside: str, run: plan.Plan) -> Verdict:
    """Every task in turn."""
    snapshot = ingest(recipe.data, recipe.task, beside)
    checked = validate(snapshot, recipe.task, recipe.data, recipe.rules)
    base = load(recipe.model, beside)
    shards = tokenise(checked, base, recipe.task, recipe.tokens)
    show.data(recipe, snapshot, checked, shards)
    with on_gpu():
        trained = finetune(base, shards, recipe.task, recipe.train, recipe.name, run.run_key)
    show.training(recipe, trained)
    bundle = package(trained, shards, checked, recipe.task, recipe.package)
    report = evaluate(bundle, checked, recipe.metric, recipe.exam)
    version = register(recipe, checked, trained, bundle, report, run.run_key)
    verdict = promote(version, checked, recipe.task, recipe.metric, recipe.gate)
    places = page.publish(recipe, run, verdict, show.here())
    show.verdict(recipe, report, verdict, places)
    return verdict
