"""A model that we trained and registered is the same to the bit, in whichever form it becomes a base again."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from tasks import stages
from tasks.model import architectures
from tasks.model.bundle import Model
from tasks.model.load import load
from tasks.release.register import register
from tests import makers
from tests.tasks.model.test_load import base

ROWS = torch.tensor([[2, 9, 7, 19, 3], [2, 5, 11, 8, 3]])
FORMS = {
    "a folder": "bundle",
    "a .safetensors file": "bundle/model.safetensors",
    "a state dict": "bundle/mine.pt",
    "a version of ours": "registry://small@1",
    "a version in MLflow": "mlflow://small/1",
}


def laid_out(made: makers.Made, where: Path) -> Path:
    """The bundle's files in the folder `bundle`, its weights once more as a state dict."""
    folder = stages.checkout(made.bundle.files, where / "bundle")
    torch.save(load_file(folder / "model.safetensors"), folder / "mine.pt")
    return folder


def packaged(folder: Path) -> torch.Tensor:
    """The logits of a bundle."""
    return answered(Model.load(folder).forward.release())


def loaded(name: str, made: makers.Made, where: Path) -> torch.Tensor:
    """The logits of the base `name`, found in `where`; a weight that it lacks would be drawn by another seed."""
    record = load.fn(base(name), str(where))
    folder = stages.checkout(record.files, where / name.replace("/", "-"))
    assert json.loads((folder / "config.json").read_bytes())["model_type"] == "vernal-transformer"
    return answered(architectures.pretrained(folder, made.recipe.task, made.bundle.labels, seed=99))


def answered(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(ROWS, attention_mask=torch.ones_like(ROWS)).logits
    return found


def test_every_form_of_a_model_gives_the_same_logits(texts: makers.Made, tmp_path: Path) -> None:
    made = texts
    with makers.at_home(made.home, mlflow=f"sqlite:///{tmp_path}/mlflow.db"):
        expected = packaged(laid_out(made, tmp_path))
        register.fn(made.recipe, made.checked, made.trained, made.bundle, made.report, made.recipe.digest)
        found = {form: loaded(name, made, tmp_path) for form, name in FORMS.items()}
    assert [form for form, logits in found.items() if not torch.equal(logits, expected)] == []
