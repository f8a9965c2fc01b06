"""When a recipe runs: clocks are checked before a server sees them, and none of it changes what is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import recipe
from tasks.errors import BadInput
from tasks.recipe.clocks import checked_cron, checked_rule, checked_zone

BARE = """
name: tiny
task: text-classification
data: {source: rows.jsonl, label: intent}
model: {base: {architecture: encoder}}
tokens: {tokenizer: {train: bpe}}
"""
TIMED = """
schedule:
  - {cron: "0 3 * * 1-5", timezone: Europe/Berlin, slug: nightly}
  - {interval: 86400, set: {train.epochs: 6}}
  - {rrule: "FREQ=MONTHLY;BYMONTHDAY=1;BYHOUR=4"}
triggers: {new_rows: 500, poll: 300, drift: {psi: 0.25}, decay: {metric: macro_f1, below: 0.85}}
work: {pool: gpu-box, queue: nights, notify: slack-webhook/on-call}
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], recipe.Recipe]:
    def load(text: str) -> recipe.Recipe:
        (tmp_path / "recipe.yaml").write_text(text)
        return recipe.load(tmp_path / "recipe.yaml")

    return load


def test_when_and_where_a_recipe_runs_is_no_part_of_its_digest(read: Any) -> None:
    bare, timed = read(BARE), read(BARE + TIMED)
    assert timed.digest == bare.digest
    assert timed.content == bare.content
    assert recipe.Recipe.model_validate_json(timed.model_dump_json()) == timed


def test_a_schedule_may_change_dials_and_then_is_another_recipe(read: Any) -> None:
    timed = read(BARE + TIMED)
    changed = timed.changed(timed.schedule[1].set)
    assert (changed.train.epochs, timed.train.epochs) == (6, 3)
    assert changed.digest == read(BARE + "train: {epochs: 6}\n").digest
    assert changed.schedule == ()


def test_a_schedule_keeps_its_name_when_another_goes(read: Any) -> None:
    names = [each.name for each in read(BARE + TIMED).schedule]
    assert names[0] == "nightly"
    assert [name.split("-")[0] for name in names[1:]] == ["interval", "rrule"]
    assert read(BARE + "schedule: [{interval: 86400, set: {train.epochs: 6}}]").schedule[0].name == names[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('schedule: [{cron: "0 24 * * *"}]', "line 7 schedule.0.cron: found '0 24 * * *', wanted an hour of 0..23"),
        ('schedule: [{cron: "0 3 30 feb *"}]', "wanted a day that one of its months has"),
        ('schedule: [{cron: "@daily"}]', "wanted five fields"),
        (
            'schedule: [{cron: "0 3 * * *", timezone: Berlin}]',
            "timezone: found 'Berlin', wanted a time zone",
        ),
        ("schedule: [{rrule: FREQ=SOMETIMES}]", "schedule.0.rrule: found 'FREQ=SOMETIMES', wanted a rule of iCalendar"),
        ("schedule: [{interval: 5}]", "schedule.0.interval: found 5, wanted a number greater than or equal to 60"),
        ("schedule: [{timezone: UTC}]", "schedule.0: found none, wanted exactly one of cron, interval and rrule"),
        ('schedule: [{cron: "0 3 * * *", interval: 60}]', "found cron and interval, wanted exactly one"),
        ("schedule: [{interval: 60}, {interval: 60}]", "schedule.1: found 'interval-"),
        (
            "schedule: [{interval: 60, set: {train.epochs: 0}}]",
            "set: train.epochs: found 0, wanted a number",
        ),
        ("schedule: [{interval: 60, set: {train.epoks: 2}}]", "train.epoks: unknown key (did you mean 'epochs'?)"),
        ("schedule: [{interval: 60, set: {name: other}}]", "wanted a dial of the recipe's content instead of 'name'"),
        ("schedule: [{interval: 60, set: {exam.metric: bleu}}]", "exam.metric: found 'bleu', wanted a metric"),
        ('triggers: {poll: "1 2 3"}', "line 7 triggers.poll: found '1 2 3', wanted five fields"),
        ("triggers: {decay: {metric: bleu, below: 0.2}}", "triggers.decay.metric: found 'bleu', wanted a metric"),
        ("triggers: {drift: {kl: 0.2}}", "triggers.drift.kl: unknown key"),
        ("work: {type: docker}", "work.image: found none, wanted the image that docker runs"),
        ("work: {image: vernal}", "work.image: found vernal, wanted none for a process"),
        ("work: {notify: on-call}", "work.notify"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_with_its_line(read: Any, line: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(BARE + line + "\n")
    assert refused.value.code == "E-RECIPE"
    assert said in refused.value.message


def test_cron_takes_what_every_cron_takes() -> None:
    for known in ("* * * * *", "*/15 0-6 1,15 * mon-fri", "0 3 29 feb *", "5/10 4 * jan-mar,dec 0,7", "0 3 31 2 mon"):
        assert checked_cron(known) == known
    for unknown in ("60 * * * *", "0 3 * * 8", "0 3 * * mun", "5-1 * * * *", "*/0 * * * *", "0 3 L * *", "0 3 32 * *"):
        with pytest.raises(ValueError, match=r"of|goes up|five"):
            checked_cron(unknown)


def test_rules_have_to_come_at_some_time_and_zones_to_be_somewhere() -> None:
    assert checked_rule("FREQ=DAILY;COUNT=3")
    for never in ("FREQ=DAILY;COUNT=0", "DAILY", "FREQ=DAILY;BYHOUR=25", ""):
        with pytest.raises(ValueError, match="iCalendar"):
            checked_rule(never)
    assert checked_zone("America/New_York")
    with pytest.raises(ValueError, match="Europe/Berlin"):
        checked_zone("../etc/passwd")
