"""The flows, and who starts each.

retrain    the whole way from data to verdict      a person (`vernal run`), a clock, an event
rollout    what is live is read back and marked    the event of a decision
reconcile  what others show, after the ledger      a clock, a person (`vernal reconcile`)
page       one page a run                          retrain
plan       what a run would do and what is there   `vernal check`, and every run before it imports anything heavy
show       artifacts in Prefect's pages            retrain
outcome    what a run came to                      `vernal run`
explain    why a version is live, from what        `vernal explain`
"""
