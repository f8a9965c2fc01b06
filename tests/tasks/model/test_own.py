"""A module of the user's own goes the whole way, runs only when its recipe names it, and is told what it does wrong."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flows import plan
from tasks import recipe, stages
from tasks.data import tokenisers
from tasks.errors import BadInput, Corrupt
from tasks.model import architectures, bundle, modules, own
from tasks.model.forward import Forward
from tasks.model.load import load
from tasks.model.world import ALONE, World
from tasks.records import Checkpoint
from tasks.release.register import register
from tests import makers
from tests.tasks.data.test_tokenisers import trained
from tests.tasks.model import groups

ROOT = Path(__file__).parents[3]
SOURCE = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, width, vocabulary, labels, length, tags=False):
        super().__init__()
        self.tags = tags
        self.embedding = nn.Embedding(vocabulary, width)
        self.head = nn.Linear(width, labels)
        self.register_buffer("scale", torch.full((1,), 2.0), persistent=False)

    def forward(self, input_ids, attention_mask):
        states = self.embedding(input_ids) * attention_mask[..., None] * self.scale
        return self.head(states if self.tags else states.sum(1) / attention_mask.sum(1, keepdim=True))

class NoModule:
    pass
"""
BASE: dict[str, Any] = {"module": "mine.py", "class": "Mine", "config": {"width": 16}}
TRAIN = {"epochs": 6, "batch": 16, "learning_rate": 2e-2, "precision": "fp32"}
ROWS = [row["text"] for row in makers.messages(20, seed=9)]


@pytest.fixture(scope="session")
def made_of_own(tmp_path_factory: pytest.TempPathFactory) -> makers.Made:
    home = tmp_path_factory.mktemp("own") / "home"
    written(home.parent / "recipe")
    with makers.at_home(home):
        return makers.made(home, makers.recipe(model={"base": BASE}, train=TRAIN))


@pytest.fixture
def mine(home: Path, made_of_own: makers.Made) -> Iterator[makers.Made]:
    """A trained module of the user's own; VERNAL_HOME is where its records are."""
    with makers.at_home(made_of_own.home):
        yield made_of_own


def written(folder: Path, source: str = SOURCE) -> Path:
    """`mine.py` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(source)
    return folder


def model_of(**changes: Any) -> recipe.Model:
    return recipe.Model.model_validate_json(json.dumps({"base": {**BASE, **changes}}))


def loaded(folder: Path, **changes: Any) -> Checkpoint:
    return load.fn(model_of(**changes), str(folder))


def settled(record: Checkpoint, where: Path, labels: int = 3, task: Any = "text-classification") -> own.Own:
    """The model as training begins with it."""
    folder = stages.checkout(record.files, where / record.digest[7:15])
    names = tuple("abcdefgh"[:labels])
    model = architectures.settled(folder, task, names, vocabulary=60, length=16, pad=0, seed=1)
    assert isinstance(model, own.Own)
    return model


def refused(folder: Path, **changes: Any) -> str:
    """What is said of a module that cannot be used, at `load` or as training begins."""
    with pytest.raises(BadInput) as caught:
        Forward(settled(loaded(folder, **changes), folder / "out"), "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_learns_and_is_computed_padded(mine: makers.Made) -> None:
    assert mine.base.architecture == "vernal-own"
    assert mine.trained.computed.startswith("padded")
    assert mine.report.scores["accuracy"] > 0.7


def answers(_world: World, folder: Path) -> list[tuple[Any, Any]]:
    """What the bundle in the folder makes of ROWS."""
    return [(each.answer, each.score) for each in bundle.Model.load(folder).predict(ROWS)]


def test_a_bundle_answers_the_same_in_a_fresh_process(mine: makers.Made, tmp_path: Path) -> None:
    folder = mine.folder(mine.bundle, tmp_path)
    assert groups.together(1, answers, folder) == [answers(ALONE, folder)]
    assert not list(folder.rglob("__pycache__"))


def test_the_bundle_lists_the_source_that_it_carries(mine: makers.Made, tmp_path: Path) -> None:
    folder = mine.folder(mine.bundle, tmp_path)
    assert (folder / "modeling.py").read_text() == SOURCE
    listed = json.loads((folder / "bundle.json").read_text())["module"]
    assert listed == {"file": "modeling.py", "digest": mine.bundle.files["modeling.py"].digest}


def test_the_weights_are_those_of_the_users_own_class(mine: makers.Made, tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    exec(SOURCE, space)
    tensors = load_file(mine.folder(mine.trained, tmp_path) / "model.safetensors")
    theirs = space["Mine"](16, len(tensors["embedding.weight"]), 3, 24)
    theirs.load_state_dict(tensors)
    assert set(tensors) == {"embedding.weight", "head.weight", "head.bias"}


def test_a_source_that_was_changed_is_not_run(mine: makers.Made, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(mine.folder(mine.bundle, tmp_path), folder, copy_function=shutil.copyfile)
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    with pytest.raises(Corrupt, match="E-INTEGRITY"):
        bundle.Model.load(folder)
    assert not (tmp_path / "touched").exists()


def test_it_labels_words_too(home: Path, mlflow_at_home: None) -> None:
    written(home.parent / "recipe")
    base = {**BASE, "config": {"width": 16, "tags": True}}
    made = makers.made(home, makers.recipe("token-classification", model={"base": base}, train=TRAIN))
    assert made.report.scores["entity_f1"] > 0.3


def test_another_source_is_another_base_and_another_place_is_not(tmp_path: Path) -> None:
    first = loaded(written(tmp_path / "a"))
    assert loaded(written(tmp_path / "b")) == first
    assert loaded(written(tmp_path / "c", SOURCE + "\n# tuned\n")) != first
    assert loaded(tmp_path / "a", config={"width": 8}) != first
    assert set(first.files) == {"config.json", "modeling.py"}


def test_looking_at_a_recipe_does_not_run_its_module(home: Path, tmp_path: Path) -> None:
    folder = written(tmp_path, f"open({str(tmp_path / 'touched')!r}, 'w')")
    makers.rows_of("text-classification", 30, folder)
    found = plan.walk(makers.recipe(model={"base": BASE}), folder)
    assert not found.finished
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_are_taken_and_a_head_of_other_labels_is_drawn(tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path / "mine")
    first = settled(loaded(folder), tmp_path).module.state_dict()
    changed = {name: each + 1 for name, each in first.items()}
    save = {"safetensors": save_file, "pt": torch.save}[kind]
    save(changed, folder / f"w.{kind}")
    tokenisers.write(trained("wordpiece"), folder)
    record = loaded(folder, weights=f"w.{kind}")
    assert record.tokenizer is not None
    same = settled(record, tmp_path).module.state_dict()
    assert all(torch.equal(same[name], changed[name]) for name in changed)
    other = settled(record, tmp_path, labels=5).module.state_dict()
    assert torch.equal(other["embedding.weight"], changed["embedding.weight"])
    assert other["head.weight"].shape == (5, 16)


def test_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    torch.save({"embedding.weight": torch.zeros(9, 16), "strange": torch.zeros(1)}, folder / "w.pt")
    said = refused(folder, weights="w.pt")
    assert said.startswith("E-MODEL-SHAPE")
    assert "head.weight is missing; head.bias is missing; strange is not the module's" in said
    assert "embedding.weight is (9, 16), Mine has (60, 16)" in said


@pytest.mark.parametrize(
    ("changes", "source", "wanted"),
    [
        ({"module": "gone.py"}, "", "gone.py: there is no such file"),
        ({"module": "no_such_package.models"}, "", "no installed package has this module"),
        ({"class": "Yours"}, "", "Yours is not there (found Mine)"),
        ({"class": "NoModule"}, "", "NoModule is no nn.Module"),
        ({}, "def broken(:", "mine.py line 19: SyntaxError"),
        ({}, "import no_such_package", "mine.py line 19: ModuleNotFoundError"),
        ({"config": {"width": 16, "depth": 2}}, "", "mine.py: Mine: TypeError"),
        ({"config": {"width": 16, "tags": True}}, "", "gives (5, 16, 3), wanted logits of shape (5, 3)"),
        ({"config": {"width": 16, "labels": 7}}, "", "gives (5, 7), wanted logits of shape (5, 3)"),
        ({}, "Mine.forward = lambda self, ids, mask: {}", "gives dict, wanted logits"),
        ({}, "Mine.forward = lambda self, ids, mask: ids @ mask", "mine.py line 19: RuntimeError"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_where_and_why(
    tmp_path: Path, changes: dict[str, Any], source: str, wanted: str
) -> None:
    said = refused(written(tmp_path, SOURCE + source), **changes)
    assert said.startswith("E-MODEL-MODULE")
    assert wanted in said


def test_a_folder_that_brings_such_a_module_is_no_base(mine: makers.Made, tmp_path: Path) -> None:
    shutil.copytree(mine.folder(mine.bundle, tmp_path), tmp_path / "theirs", copy_function=shutil.copyfile)
    with pytest.raises(BadInput, match=r"E-MODEL-CODE.*model.base.module"):
        load.fn(recipe.Model(base="theirs"), str(tmp_path))


def test_an_installed_module_is_known_by_its_distribution_and_read_without_an_import() -> None:
    script = (
        "import sys; from pathlib import Path; from tasks.model import modules\n"
        "found = modules.find('torch.nn.modules.linear', Path())\n"
        "print('torch' in sys.modules, found.distribution.partition('+')[0], found.digest)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    version = torch.__version__.partition("+")[0]
    source = Path(torch.nn.modules.linear.__file__).read_bytes()
    assert done.stdout.split() == ["False", f"torch=={version}", modules.digest(source)]


def test_an_installed_class_is_taken_from_its_package_if_it_is_still_the_same() -> None:
    source = modules.find("torch.nn.modules.linear", Path())
    config = own.OwnConfig(module="torch.nn.modules.linear", class_name="Linear", digest=source.digest)
    assert own.class_of(config, source.content) is torch.nn.Linear
    other = own.OwnConfig(
        module="torch.nn.modules.linear", class_name="Linear", digest=modules.digest(b""), distribution="torch==1.0"
    )
    with pytest.raises(BadInput, match=r"install torch==1\.0"):
        own.class_of(other, b"")


def test_a_registered_version_is_a_base_with_its_module_and_weights(mine: makers.Made, tmp_path: Path) -> None:
    with makers.at_home(mine.home, mlflow=f"sqlite:///{mine.home}/mlflow.db"):
        register.fn(mine.recipe, mine.checked, mine.trained, mine.bundle, mine.report, mine.recipe.digest)
        record = load.fn(recipe.Model(base="registry://small@1"), str(tmp_path))
        with pytest.raises(BadInput, match="E-MODEL-CODE"):
            load.fn(recipe.Model(base="mlflow://small/1"), str(tmp_path))
        found = settled(record, tmp_path).module.state_dict()
        expected = load_file(mine.folder(mine.trained, tmp_path) / "model.safetensors")
    assert record.tokenizer == mine.trained.tokenizer
    assert all(torch.equal(found[name], expected[name]) for name in expected)
