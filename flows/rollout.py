"""After a decision: what is live now is read back, asked again, and marked as deployable. Started by its event.

The state says how it came: "Deployable", or "Superseded" when a later decision has put another version in its place.
"""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import events
from infra.ledger import Rollout
from tasks.release import rollout as release


@flow(name="rollout", flow_run_name="{name} version {version}", persist_result=False)
def rollout(name: str, version: int, decision: int) -> State[Rollout | None]:
    """Marks the version that a decision of the ledger made live as deployable, once, and tells it."""
    marked = release.rollout(name, version, decision)
    if marked is None:
        return Completed(name="Superseded", message=f"a later decision than {decision} is live")
    payload = {"version": version, "decision": decision, **marked.body}
    events.emit(events.DEPLOYABLE, name, payload, str(decision))
    return Completed(name="Deployable", message=f"answered {marked.body['golden']} golden inputs", data=marked)
