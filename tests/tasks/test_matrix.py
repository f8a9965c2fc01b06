"""Every task with every kind of base that can answer it: trained, killed, resumed, packaged, opened, examined.

Those that cannot are refused: tests/tasks/test_fits.py.
"""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import transformers as hf

from tasks import fits, problems, stages
from tasks.data import tokenisers
from tasks.data.ingest import ingest
from tasks.data.tokenise import tokenise
from tasks.data.validate import validate
from tasks.model.bundle import Model
from tasks.model.evaluate import evaluate
from tasks.model.finetune import finetune
from tasks.model.load import load
from tasks.model.package import package
from tasks.model.training import Job
from tasks.recipe import Recipe, TrainedTokenizer
from tests import makers
from tests.faults.test_training_kills import Place, alive, await_checkpoint, finish
from tests.tasks.test_problems import phrases, rows_of, written

pytestmark = pytest.mark.matrix

ROOT = Path(__file__).parents[2]
STEPS = 20
SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 2,
    "max_position_embeddings": 64,
}
NARROW = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
STOCK: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "BERT": lambda: hf.BertModel(hf.BertConfig(**SIZES, **NARROW)),
    "Llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES, **NARROW, num_key_value_heads=1)),
    "T5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(**SIZES, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    ),
    "BART": lambda: hf.BartForConditionalGeneration(
        hf.BartConfig(
            **SIZES,
            d_model=32,
            **{f"{stack}_layers": 2 for stack in ("encoder", "decoder")},
            **{f"{stack}_attention_heads": 2 for stack in ("encoder", "decoder")},
            **{f"{stack}_ffn_dim": 64 for stack in ("encoder", "decoder")},
        )
    ),
}
OURS = ("encoder", "decoder", "encoder-decoder")
ASK = """
import json, sys
from pathlib import Path
from tasks.model.bundle import Model
rows = json.loads(Path(sys.argv[2]).read_text())
model = Model.load(Path(sys.argv[1]))
model.check()
print(json.dumps([[each.answer, each.score] for each in (*model.predict(rows), *model.sit(rows))]))
"""


def config_of(base: str) -> dict[str, Any]:
    if base in OURS:
        return {"model_type": fits.OURS, "architecture": base}
    return STOCK[base]().config.to_dict()


PAIRS = [
    (task, base)
    for task in problems.names()
    for base in (*OURS, *STOCK)
    if fits.unfit(problems.named(task), config_of(base)) is None
]


def settled(base: str, folder: Path) -> dict[str, Any]:
    """The sections of a recipe that name the base; one of transformers is written to `folder` with a tokenizer."""
    if base in OURS:
        tokens = {"length": 48, "tokenizer": {"train": "byte-bpe", "vocabulary": 400, "lowercase": False}}
        return {"model": {"base": makers.ENCODER | {"architecture": base, "dropout": 0.1}}, "tokens": tokens}
    torch.manual_seed(0)
    STOCK[base]().save_pretrained(folder)
    how = TrainedTokenizer(train="byte-bpe", vocabulary=400, lowercase=False)
    tokenizer = tokenisers.train(how, lambda: (" ".join(each) for each in phrases(200)))
    tokenisers.write(tokenizer, folder, tokenisers.config_of_trained(48))
    return {"model": {"base": str(folder)}, "tokens": {"length": 48}}


def rows_for(task: str) -> list[dict[str, Any]]:
    if task == "text-classification":
        return makers.messages(160)
    return makers.sentences(160) if task == "token-classification" else rows_of(task, 160)


def laid_out(home: Path, what: Recipe) -> Place:
    """A home with the job of a recipe whose rows lie beside it."""
    with makers.at_home(home):
        beside = home.parent / "recipe"
        checked = validate.fn(ingest.fn(what.data, what.task, str(beside)), what.task, what.data, what.rules)
        base = load.fn(what.model, str(beside))
        shards = tokenise.fn(checked, base, what.task, what.tokens)
        stages.checkout(shards.files, home / "job" / "shards")
        stages.checkout(base.files, home / "job" / "base")
    sections = {"task": what.task, "train": what.train, "name": "small", "run_key": what.digest}
    return Place(home, Job(base=base, data=shards, checkpoints="checkpoints/run", **sections))


@pytest.fixture(scope="module")
def context() -> multiprocessing.context.ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.faults.test_training_kills"])
    return found


@pytest.mark.parametrize(("task", "base"), PAIRS, ids=lambda value: value)
def test_a_task_goes_the_whole_way_with_a_base_whoever_is_killed_on_it(
    task: str,
    base: str,
    tmp_path: Path,
    context: multiprocessing.context.ForkServerContext,
) -> None:
    train = {"epochs": STEPS, "batch": 16, "max_rows": 16, "learning_rate": 1e-3, "precision": "fp32"}
    sections = settled(base, tmp_path / "base") | {"train": train | {"early_stopping": 0}}
    what = makers.recipe(task, **sections, package={"golden": 2})
    written(rows_for(task))(task, 0, tmp_path / "recipe")
    torch.set_num_threads(1)
    killed = laid_out(tmp_path / "home", what)
    with alive(context, killed) as child:
        await_checkpoint(killed, child)
        child.kill()
        child.join()
    finish(context, killed)
    with makers.at_home(tmp_path / "home"):
        snapshot = ingest.fn(what.data, what.task, str(tmp_path / "recipe"))
        checked = validate.fn(snapshot, what.task, what.data, what.rules)
        job = killed.job
        trained = finetune.fn(job.base, job.data, what.task, what.train, what.name, what.digest)
        assert trained.steps == STEPS
        assert trained.files["model.safetensors"].digest == f"sha256:{killed.weights}"
        bundle = package.fn(trained, job.data, checked, what.task, what.package)
        report = evaluate.fn(bundle, checked, what.metric, what.exam)
        assert set(what.problem.metrics) <= set(report.scores)
        folder = stages.checkout(bundle.files, tmp_path / "bundle")
        table = pq.read_table(stages.open_file(checked.files["test.parquet"])).slice(0, 6)
        asked = [what.problem.asked(row) for row in table.select(list(what.problem.roles)).to_pylist()]
        model = Model.load(folder)
        here = [[each.answer, each.score] for each in (*model.predict(asked), *model.sit(asked))]
    (tmp_path / "rows.json").write_text(json.dumps(asked))
    there = subprocess.run(
        [sys.executable, "-c", ASK, str(folder), str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert json.loads(there.stdout.splitlines()[-1]) == json.loads(json.dumps(here))
