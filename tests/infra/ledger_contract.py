"""What every ledger keeps, whichever database stands behind it: the tests of `test_ledger.py` (SQLite) and of
`services/test_ledger_postgres.py` (PostgreSQL), which give the fixture `url` of an empty database."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from infra.errors import Coded
from infra.ledger import Decision, Kind, Lease, Ledger

ROOT = Path(__file__).parents[2]
EXPIRY = 0.5

HOLDER = """
import sys
from infra.errors import Coded
from infra.ledger import Ledger
ledger = Ledger(sys.argv[1], expiry=0.5, renewal=0.1)
with ledger.lease("intent") as lease:
    print(lease.epoch, flush=True)
    sys.stdin.readline()
    try:
        ledger.decide(lease, model="intent", version=1, kind="promoted", key="late", body={})
        print("decided", flush=True)
    except Coded as error:
        print(error, flush=True)
"""


def quick(url: str) -> Ledger:
    return Ledger(url, expiry=EXPIRY, renewal=EXPIRY / 5)


def holder(url: str) -> subprocess.Popen[str]:
    """Another process that holds the lease `intent`, and decides when a line is sent to it."""
    command = [sys.executable, "-c", HOLDER, url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    return process


def decide(ledger: Ledger, lease: Lease, kind: Kind, version: int, key: str) -> Decision:
    return ledger.decide(lease, model="intent", version=version, kind=kind, key=key, body={"gain": 0.25})


class LedgerContract:
    def test_before_the_first_decision_there_is_no_champion(self, url: str) -> None:
        ledger = Ledger(url)
        assert ledger.champion("intent") is None
        assert ledger.previous("intent") is None
        assert ledger.decisions("intent") == []
        assert ledger.models() == []

    def test_a_decision_is_read_back_as_it_was_written(self, url: str) -> None:
        ledger = Ledger(url)
        body = {"gain": 0.25, "why": ["größer", None]}
        with ledger.lease("intent") as lease:
            made = ledger.decide(lease, model="intent", version=7, kind="promoted", key="k", body=body)
        assert Ledger(url).decisions("intent") == [made]
        assert (made.version, made.previous, made.kind, made.epoch, made.body) == (7, None, "promoted", 1, body)
        assert made.at.endswith("+00:00")
        assert ledger.models() == ["intent"]

    def test_a_rollback_goes_back_and_a_second_one_forward_again(self, url: str) -> None:
        ledger = Ledger(url)
        steps: list[tuple[Kind, int, int | None, int | None]] = [
            ("promoted", 1, 1, None),
            ("promoted", 2, 2, 1),
            ("refused", 3, 2, 1),
            ("promoted", 4, 4, 2),
            ("rolled-back", 2, 2, 4),
            ("rolled-back", 4, 4, 2),
            ("promoted", 4, 4, 2),
            ("promoted", 5, 5, 4),
        ]
        before = None
        with ledger.lease("intent") as lease:
            for number, (kind, version, champion, previous) in enumerate(steps):
                made = decide(ledger, lease, kind, version, f"key {number}")
                assert made.previous == before
                assert (ledger.champion("intent"), ledger.previous("intent")) == (champion, previous)
                before = champion
        assert [row.version for row in ledger.decisions("intent")] == [1, 2, 3, 4, 2, 4, 4, 5]
        assert ledger.champion("another") is None

    def test_the_same_key_is_decided_once(self, url: str) -> None:
        ledger = Ledger(url)
        with ledger.lease("intent") as lease:
            first = decide(ledger, lease, "promoted", 1, "k")
        with ledger.lease("intent") as lease:
            assert decide(ledger, lease, "promoted", 9, "k") == first
            assert decide(ledger, lease, "refused", 9, "k").id != first.id
        assert len(ledger.decisions("intent")) == 2

    def test_a_lease_let_go_is_free_at_once_under_the_next_epoch(self, url: str) -> None:
        ledger = Ledger(url)
        with ledger.lease("intent") as first:
            pass
        with ledger.lease("intent", patience=0) as second, ledger.lease("another", patience=0) as other:
            assert (first.epoch, second.epoch, other.epoch) == (1, 2, 1)
        with pytest.raises(Coded, match="E-FENCED"):
            decide(ledger, first, "promoted", 1, "k")

    def test_a_renewed_lease_is_not_taken_however_long_one_waits(self, url: str) -> None:
        with quick(url).lease("intent") as held:
            with pytest.raises(Coded) as caught, quick(url).lease("intent", patience=3 * EXPIRY):
                pass
            assert caught.value.code == "E-LEASE-HELD"
            assert held.holder in caught.value.message
            assert decide(quick(url), held, "promoted", 1, "k").epoch == 1

    def test_a_killed_holder_is_taken_over_after_its_lease_ran_out(self, url: str) -> None:
        process = holder(url)
        process.kill()
        process.communicate()
        start = time.monotonic()
        with quick(url).lease("intent", patience=10) as lease:
            assert EXPIRY <= time.monotonic() - start < 10
            assert lease.epoch == 2

    def test_a_holder_paused_and_woken_after_a_take_over_decides_nothing(self, url: str) -> None:
        process = holder(url)
        process.send_signal(signal.SIGSTOP)
        with quick(url).lease("intent", patience=10) as lease:
            process.send_signal(signal.SIGCONT)
            said, _ = process.communicate("go on\n", timeout=30)
            assert said.startswith("E-FENCED epoch 1 of lease 'intent' is over: now epoch 2")
            decide(quick(url), lease, "promoted", 2, "k")
        assert [row.version for row in Ledger(url).decisions("intent")] == [2]

    def test_eight_racers_on_an_empty_database_get_every_epoch_once(self, url: str) -> None:
        together = Barrier(8)

        def race(number: int) -> list[Decision]:
            ledger, made = Ledger(url), []
            together.wait()
            for turn in range(3):
                with ledger.lease("intent") as lease:
                    made.append(decide(ledger, lease, "promoted", 10 * number + turn + 1, f"{number} {turn}"))
            return made

        with ThreadPoolExecutor(8) as racers:
            made = [row for rows in racers.map(race, range(8)) for row in rows]
        assert sorted(row.epoch for row in made) == list(range(1, 25))
        rows = Ledger(url).decisions("intent")
        assert sorted(made, key=lambda row: row.id) == rows
        assert [row.previous for row in rows] == [None] + [row.version for row in rows[:-1]]

    def test_a_cause_is_noted_once_whatever_is_said_of_it_later(self, url: str) -> None:
        ledger = Ledger(url)
        first = ledger.note("intent", "rows of monday", {"run": "a"})
        assert ledger.note("intent", "rows of monday", {"run": "b"}) == first
        other = ledger.note("sentiment", "rows of monday", {"run": "c"})
        last = ledger.note("intent", "rows of tuesday", {"run": None})
        assert Ledger(url).causes("intent") == [first, last]
        assert (first.body, other.body["run"]) == ({"run": "a"}, "c")

    @pytest.mark.parametrize("change", ["UPDATE causes SET key = 'x'", "DELETE FROM causes"])
    def test_the_database_itself_refuses_to_change_a_cause(self, url: str, change: str) -> None:
        ledger = Ledger(url)
        made = ledger.note("intent", "rows of monday", {})
        with pytest.raises(DBAPIError, match="append-only"), create_engine(_driver(url)).begin() as connection:
            connection.execute(text(change))
        assert made in ledger.causes("intent")

    def test_a_ledger_of_an_older_version_gets_what_it_lacks_and_keeps_what_it_has(self, url: str) -> None:
        ledger = Ledger(url)
        with ledger.lease("intent") as lease:
            made = decide(ledger, lease, "promoted", 1, "k")
        with create_engine(_driver(url)).begin() as connection:
            connection.execute(text("DROP TABLE causes"))
        newer = Ledger(url)
        assert newer.note("intent", "rows of monday", {}).id == 1
        assert newer.decisions("intent") == [made]

    @pytest.mark.parametrize("change", ["UPDATE decisions SET version = 2", "DELETE FROM decisions"])
    def test_the_database_itself_refuses_to_change_a_decision(self, url: str, change: str) -> None:
        ledger = Ledger(url)
        with ledger.lease("intent") as lease:
            made = decide(ledger, lease, "promoted", 1, "k")
        with pytest.raises(DBAPIError, match="append-only"), create_engine(_driver(url)).begin() as connection:
            connection.execute(text(change))
        assert ledger.decisions("intent") == [made]


def _driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg2://")

    def test_a_live_decision_is_marked_once_and_one_that_was_overtaken_never(self, url: str) -> None:
        ledger = quick(url)
        with ledger.lease("intent") as lease:
            first = decide(ledger, lease, "promoted", 1, "one")
            marked = ledger.roll_out(lease, first, {"golden": 8})
            assert marked
            assert (marked.version, marked.decision, marked.body) == (1, first.id, {"golden": 8})
            second, third = (decide(ledger, lease, "promoted", number, str(number)) for number in (2, 3))
            refused = decide(ledger, lease, "refused", 4, "four")
            assert ledger.roll_out(lease, first, {"golden": 9}) == marked, "the same again, whatever came later"
            assert ledger.roll_out(lease, second, {}) is None
            assert ledger.roll_out(lease, refused, {}) is None
            assert ledger.live("intent") == third
        with pytest.raises(Coded) as caught:
            ledger.roll_out(lease, third, {})
        assert caught.value.code == "E-FENCED"
        assert ledger.rollouts("intent") == [marked]
        with pytest.raises(DBAPIError, match="append-only"), create_engine(_driver(url)).begin() as connection:
            connection.execute(text("DELETE FROM rollouts"))

    def test_a_request_is_open_until_its_key_is_decided(self, url: str) -> None:
        ledger = quick(url)
        with ledger.lease("intent") as lease:
            asked = ledger.ask(lease, model="intent", version=1, key="one", body={"until": "tomorrow"})
            assert ledger.ask(lease, model="intent", version=1, key="one", body={"until": "never"}) == asked
            assert ledger.asked("intent") == [asked]
            assert ledger.models() == ["intent"]
            decide(ledger, lease, "refused", 1, "one")
        assert ledger.asked("intent") == []
        with pytest.raises(DBAPIError, match="append-only"), create_engine(_driver(url)).begin() as connection:
            connection.execute(text("UPDATE requests SET version = 2"))

    def test_who_renews_a_lease_is_alive_and_who_was_killed_is_not(self, url: str) -> None:
        ledger = quick(url)
        killed = holder(url)
        killed.kill()
        killed.communicate()
        with ledger.lease("living"), ledger.lease("finished"):
            pass
        with ledger.lease("living"):
            assert ledger.alive(["intent", "living", "finished", "nobody's"]) == {"living"}
        assert ledger.alive([]) == set()

    def test_a_ledger_of_before_gets_the_tables_that_it_lacks_and_keeps_its_rows(self, url: str) -> None:
        ledger = quick(url)
        with ledger.lease("intent") as lease:
            first = decide(ledger, lease, "promoted", 1, "one")
        with create_engine(_driver(url)).begin() as connection:
            connection.execute(text("DROP TABLE rollouts"))
            connection.execute(text("DROP TABLE requests"))
        later = quick(url)
        assert later.decisions("intent") == [first]
        with later.lease("intent") as lease:
            assert later.roll_out(lease, first, {})
