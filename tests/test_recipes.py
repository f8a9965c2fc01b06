"""Every recipe that ships is read, says how to run it, and runs shrunk."""

from pathlib import Path

import pytest

from flows.__main__ import main
from tasks import recipe

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "flows/recipes").rglob("*.yaml"))
SHRUNK = [
    "tokens.length=32",
    "tokens.tokenizer={train: bpe, vocabulary: 2000}",
    "model.base={architecture: encoder, num_layers: 1, d_model: 32, num_heads: 2}",
    "train.epochs=1",
    "train.max_rows=64",
    "gate.floors={}",
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_tells_how_to_run_it(path: Path) -> None:
    assert recipe.load(path).name
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"vernal run {path.relative_to(ROOT)}" in line for line in header)
    assert any("measured" in line for line in header)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_shrunk(
    path: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if path.stem not in ("quickstart", "own"):
        monkeypatch.setenv("VERNAL_DATA", str(request.getfixturevalue("datasets")))
    shrunk = SHRUNK if path.stem != "own" else [change for change in SHRUNK if not change.startswith("model.base=")]
    changes = [part for change in shrunk for part in ("--set", change)]
    assert main(["run", str(path), *changes]) == 0
