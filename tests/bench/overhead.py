"""What a step costs besides its arithmetic when a run is watched: curves to MLflow, a progress bar, checkpoints.

The session of `vernal run` against the bare engine, alternating by blocks of as many steps as lie between two points of
a curve. The threads of the bar and of the curves count: a block of the session ends when its points have been sent, and
the bar stands still while the other has its turn. Waiting takes no CPU time, of which all figures are but a
checkpoint's. Medians over the pairs of blocks, since a few milliseconds are looked for in a step of hundreds.
"""

import io
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from unittest import mock

from rich.console import Console
from transformers import BertConfig, PreTrainedModel

from infra.settings import settings
from tasks import problems, stages
from tasks.data.shards import Shard
from tasks.model import loop
from tasks.model.checkpoints import Checkpoints
from tasks.model.curves import PAUSE, Curves
from tasks.model.learner import Learner
from tasks.model.screen import Bar, display
from tasks.model.session import LOGGED, Session, Watch
from tests import makers
from tests.bench import data, ours
from tests.bench.dials import how
from tests.bench.paired import READY, Enough, HandBack, Taken, run, stepwise
from tests.bench.results import Section

BATCH, BLOCKS = 16, 10
HEADS = (
    "model",
    "bare step, ms",
    "in a session, ms",
    "ratio",
    "a checkpoint, s of wall time",
    "ratio with a checkpoint each {:.0f} s",
)


def sections(steps: int | None) -> Iterator[Section]:
    """One table; `steps` are blocks here."""
    with TemporaryDirectory() as home, makers.at_home(Path(home), mlflow=""):
        rows = [
            line("one layer of width 32", partial(data.initialised, tiny()), steps or BLOCKS),
            line("MiniLM", partial(data.pretrained, "banking77"), steps or BLOCKS),
        ]
        heads = [head.format(settings().checkpoint_seconds) for head in HEADS]
        text = (
            f"banking77, batch {BATCH}, fp32; {steps or BLOCKS} blocks of {LOGGED} steps each; medians, the ratio with "
            "its quartiles; local SQLite behind MLflow."
        )
        yield Section("What watching a run costs", text, heads, rows)


def tiny() -> BertConfig:
    """A model whose step is nearly nothing but overhead."""
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    return BertConfig(**sizes, num_labels=77)


def line(name: str, model: Callable[[], PreTrainedModel], blocks: int) -> list[str]:
    """The figures of one model."""
    shard = data.shard("banking77", BATCH * (2 + blocks * LOGGED))
    watched = Watched(model(), shard, blocks)
    turns = run({"bare": bare(model(), shard, blocks), "session": watched.blocks()})
    saved = watched.seconds_of_a_checkpoint()
    milliseconds = {who: 1e3 / LOGGED * statistics.median(turn.cpu for turn in taken) for who, taken in turns.items()}
    pairs = zip(turns["session"], turns["bare"], strict=True)
    low, ratio, high = statistics.quantiles([session.cpu / bare.cpu for session, bare in pairs], n=4)
    with_saving = ratio + saved / settings().checkpoint_seconds
    steps = [f"{milliseconds[who]:.2f}" for who in ("bare", "session")]
    return [name, *steps, f"{ratio:.3f} ({low:.3f} to {high:.3f})", f"{saved:.2f}", f"{with_saving:.3f}"]


def bare(model: PreTrainedModel, shard: Shard, blocks: int) -> Iterator[Taken]:
    """The engine's steps alone, a block a turn."""
    dials = how(BATCH, "fp32")
    steps = ours.begun(Learner(model, shard, dials), shard, dials)
    next(steps)
    yield READY
    for _ in range(blocks):
        yield Taken(BATCH * sum(1 for _ in islice(steps, LOGGED)), 0)


class Watched:
    """A run as `vernal run` watches it, but that it never ends an epoch and saves only when it is asked to."""

    def __init__(self, model: PreTrainedModel, shard: Shard, blocks: int) -> None:
        dials, self.turns = how(BATCH, "fp32"), blocks
        labels = tuple(map(str, range(77)))
        learner = Learner(model, shard, dials)
        watch = Watch(learner.forward, shard, labels, problems.named("text-classification"), None)
        self.progress = display(Console(file=io.StringIO(), force_terminal=True))
        self.session = Session(
            learner,
            loop.Plan(shard, dials),
            loop.Progress(),
            watch,
            Checkpoints(stages.artifacts().within("checkpoints/bench"), Path(mkdtemp())),
            Curves("bench", f"sha256:{model.num_parameters():064}"),
            Bar(self.progress, "training", blocks * LOGGED, 0),
            [],
        )

    def blocks(self) -> Iterator[Taken]:
        """The steps of the session, a block a turn."""
        return stepwise(self.train)

    def train(self, hand_back: HandBack) -> None:
        """Runs the session, which is held up after each block; a first step warms up."""
        engine = loop.steps

        def watched(*given: Any) -> Iterator[loop.Step]:
            steps = engine(*given)
            yield next(steps)
            self.pause()
            hand_back(READY)
            for _ in range(self.turns):
                self.progress.start()
                yield from islice(steps, LOGGED)
                self.pause()
                hand_back(Taken(BATCH * LOGGED, 0))
            raise Enough

        never = settings().model_copy(update={"checkpoint_seconds": 1e9})
        with (
            mock.patch.object(loop, "steps", watched),
            mock.patch("tasks.model.session.settings", return_value=never),
            self.session.curves,
        ):
            self.session.curves.add(0, begun=1.0)
            self.session.run()

    def pause(self) -> None:
        """Stops the bar, and waits until all points are sent and the sender sleeps again."""
        self.progress.stop()
        while not self.session.curves.waiting.empty():
            time.sleep(0.05)
        time.sleep(PAUSE / 2)

    def seconds_of_a_checkpoint(self) -> float:
        """Wall time of saving, the median of three, though most of it passes beside the training."""
        seconds = []
        for number in range(3):
            began = time.perf_counter()
            self.session.progress.step = number
            self.session.checkpoints.save(self.session.learner, self.session.progress)
            self.session.checkpoints.wait()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)
