"""Every recipe that ships is read, says how to run it, and runs shrunk."""

from pathlib import Path

import pytest

from flows.__main__ import main
from tasks import recipe
from tests.bench import reproduce

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "flows/recipes").rglob("*.yaml"))
# run shrunk by the fast tier: seconds each
QUICK = ("quickstart", "own", "questions", "paraphrase", "resume_zh", "002_customised")
SMALL = "{architecture: encoder, num_layers: 1, d_model: 32, num_heads: 2}"
WRITTEN = {"tokens.tokenizer": "{train: byte-bpe, vocabulary: 2000}"}
SHRUNK = {
    "tokens.length": "32",
    "tokens.tokenizer": "{train: bpe, vocabulary: 2000}",
    "model.base": SMALL,
    "train.epochs": "1",
    "train.max_rows": "64",
    "gate.floors": "{}",
}
OTHERWISE = {  # what other recipes want to be shrunk to
    "own": {"model.base": "{module: my_model.py, class: MyClassifier, config: {width: 16}}"},
    "000_custom_model": {
        "model.base": "{module: custom_transformer.py, class: CustomTransformer, "
        "config: {num_layers: 1, d_model: 32, num_heads: 2, dff: 64, pe_input: 32}}"
    },
    "002_customised": {"train.top_layers": "1"},
    "shakespeare": {**WRITTEN, "model.base": SMALL.replace("encoder", "decoder")},
    "pretraining": WRITTEN,
    "translation_zh": {**WRITTEN, "model.base": SMALL.replace("encoder", "encoder-decoder")},
    "004_translation": {**WRITTEN, "model.base": SMALL.replace("encoder", "encoder-decoder")},
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_tells_how_to_run_it(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"vernal run {path.relative_to(ROOT)}" in line for line in header)
    metric, _ = reproduce.claimed(path)
    assert metric in recipe.load(path).problem.metrics


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.matrix, id=path.stem) for path in RECIPES],
)
def test_a_recipe_runs_shrunk(
    path: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if path.stem != "quickstart":  # which begins with nothing at home, as for a new user
        request.getfixturevalue("mlflow_at_home")
    if path.stem not in ("quickstart", "own"):
        monkeypatch.setenv("VERNAL_DATA", str(request.getfixturevalue("datasets")))
    changes = SHRUNK | OTHERWISE.get(path.stem, {})
    given = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    assert main(["run", str(path), *given]) == 0
