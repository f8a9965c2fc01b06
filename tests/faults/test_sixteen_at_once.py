"""Sixteen people run one recipe at the same moment: one of them does the work."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "flows" / "recipes" / "customer_messages.jsonl"
PATIENCE = 900  # seconds for all of them on a busy machine

RECIPE = """
name: small
task: text-classification
data: {source: messages.jsonl, label: intent}
tokens: {length: 48, tokenizer: {train: bpe, vocabulary: 500}}
model: {base: {architecture: encoder, num_layers: 1, d_model: 32, num_heads: 2}}
train: {epochs: 1, precision: fp32}
rules: {min_per_class: 1}
"""


def test_one_of_sixteen_runs_does_the_work_and_all_end_with_its_version(tmp_path: Path) -> None:
    (tmp_path / "messages.jsonl").write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[:300]))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "flows", "run", str(tmp_path / "recipe.yaml"), "--json"]
    environment = {**os.environ, "VERNAL_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(16)
    ]
    end = time.monotonic() + PATIENCE
    ended = [(*process.communicate(timeout=end - time.monotonic()), process.returncode) for process in running]
    assert {code for _, _, code in ended} == {0}, [said[-500:] for _, said, code in ended if code]
    outcomes = [json.loads(printed) for printed, _, _ in ended]
    assert {each["version"] for each in outcomes} == {1}
    trained = [each for each in outcomes if not each["stages"]["finetune"]["reused"]]
    assert len(trained) == 1
    assert sum("is held by" in said for _, said, _ in ended) >= 1
