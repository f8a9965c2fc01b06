"""A base in each form in which one can be named becomes the same Checkpoint."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from infra.registry import Registry
from tasks import recipe, stages
from tasks.data import tokenisers
from tasks.errors import BadInput, Missing
from tasks.model.curves import registry
from tasks.model.load import load
from tasks.records import Checkpoint
from tests.tasks.data.test_tokenisers import trained

SIZES = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder with a small BERT and a tokenizer."""
    tokenizer = trained("wordpiece")
    model = BertForMaskedLM(BertConfig(**SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=40))
    model.save_pretrained(tmp_path / "bert")
    tokenisers.write(tokenizer, tmp_path / "bert", tokenisers.config_of_trained(40))
    return tmp_path / "bert"


def base(name: Any) -> recipe.Model:
    return recipe.Model.model_validate_json(json.dumps({"base": name}))


def code_of(name: Any, beside: Path) -> str:
    with pytest.raises((BadInput, Missing)) as caught:
        load.fn(base(name), str(beside))
    return caught.value.code


def test_a_folder_is_read_whole(bert: Path) -> None:
    found = load.fn(base("bert"), str(bert.parent))
    assert set(found.files) >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert (found.architecture, found.length, found.steps) == ("bert", 40, 0)
    model = BertForMaskedLM.from_pretrained(bert)
    assert found.parameters == sum(tensor.numel() for tensor in model.parameters())
    assert found.tokenizer is not None


def test_what_a_folder_holds_beside_the_model_is_left_there(bert: Path) -> None:
    before = load.fn(base("bert"), str(bert.parent))
    (bert / "training_args.bin").write_bytes(b"\x80\x04N.")
    (bert / "README.md").write_text("a model")
    (bert / "modeling.py").write_text("raise SystemExit")
    assert load.fn(base("bert"), str(bert.parent)) == before


def test_one_safetensors_file_takes_the_config_beside_it(bert: Path) -> None:
    shutil.move(bert / "model.safetensors", bert / "step-40.safetensors")
    (bert / "step-80.safetensors").write_bytes(b"another checkpoint, half written")
    found = load.fn(base("bert/step-40.safetensors"), str(bert.parent))
    assert "model.safetensors" in found.files
    assert not {"step-40.safetensors", "step-80.safetensors"} & set(found.files)
    assert found.parameters > 0
    assert found.tokenizer is not None


def test_shards_with_their_index_are_the_model_they_were_cut_from(bert: Path) -> None:
    whole = load.fn(base("bert"), str(bert.parent))
    BertForMaskedLM.from_pretrained(bert).save_pretrained(bert.parent / "cut", max_shard_size="8KB")
    (bert.parent / "cut" / "tokenizer.json").write_bytes((bert / "tokenizer.json").read_bytes())
    found = load.fn(base("cut"), str(bert.parent))
    assert "model.safetensors.index.json" in found.files
    assert sum(name.endswith(".safetensors") for name in found.files) > 1
    assert found.parameters == whole.parameters


def test_a_shard_that_is_missing_is_noticed(bert: Path) -> None:
    folder = bert.parent / "cut"
    BertForMaskedLM.from_pretrained(bert).save_pretrained(folder, max_shard_size="8KB")
    next(folder.glob("model-00002-*")).unlink()
    assert code_of("cut", bert.parent) == "E-MODEL-PATH"


def test_an_architecture_is_a_config_without_weights(tmp_path: Path) -> None:
    found = load.fn(base({"architecture": "encoder", "num_layers": 2, "d_model": 16, "num_heads": 2}), str(tmp_path))
    assert set(found.files) == {"config.json"}
    assert (found.parameters, found.tokenizer, found.length, found.parents) == (0, None, None, ())


def test_a_vocabulary_file_becomes_a_tokenizer(bert: Path) -> None:
    pieces = [each for each, _ in sorted(trained("wordpiece").get_vocab().items(), key=lambda item: item[1])]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert / name).unlink()
    (bert / "vocab.txt").write_text("\n".join(pieces))
    found = load.fn(base("bert"), str(bert.parent))
    assert found.tokenizer is not None
    folder = stages.checkout(found.files, bert.parent / "out")
    ids = tokenisers.read(folder).encode("my invoice").ids
    assert ids == trained("wordpiece").encode("my invoice").ids


def test_the_same_files_under_another_name_are_the_same_base(bert: Path) -> None:
    before = load.fn(base("bert"), str(bert.parent))
    shutil.copytree(bert, bert.parent / "copy")
    assert load.fn(base("copy"), str(bert.parent)) == before
    assert len(list(stages.artifacts().manifests("load/"))) == 1


@pytest.mark.parametrize(
    ("missing", "added", "code"),
    [
        ("model.safetensors", None, "E-MODEL-FORMAT"),
        ("model.safetensors", "pytorch_model.bin", "E-MODEL-PICKLE"),
        ("model.safetensors", "tf_model.h5", "E-MODEL-FORMAT"),
        ("model.safetensors", "flax_model.msgpack", "E-MODEL-FORMAT"),
        ("model.safetensors", "model.gguf", "E-MODEL-FORMAT"),
        ("model.safetensors", "step-40.pt", "E-MODEL-FORMAT"),
        ("config.json", None, "E-MODEL-FORMAT"),
    ],
)
def test_a_folder_without_weights_that_are_safe_is_refused(
    bert: Path, missing: str, added: str | None, code: str
) -> None:
    (bert / missing).unlink()
    if added:
        (bert / added).write_bytes(b"\x80\x04N.")
    with pytest.raises(BadInput, match=added or missing) as caught:
        load.fn(base("bert"), str(bert.parent))
    assert caught.value.code == code


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert code_of("nowhere", tmp_path) == "E-SOURCE-MISSING"
    assert code_of("registry://small@champion", tmp_path) == "E-REG-MISSING"
    assert code_of("registry://small@7", tmp_path) == "E-REG-MISSING"


def test_a_base_that_is_not_sound_is_not_kept(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text()) | {"auto_map": {"AutoModel": "modeling.Own"}}
    (bert / "config.json").write_text(json.dumps(config))
    assert code_of("bert", bert.parent) == "E-MODEL-CODE"
    assert list(stages.artifacts().manifests("load/")) == []


def bare(tensors: dict[str, torch.Tensor]) -> Any:
    return tensors


def logits(record: Checkpoint, where: Path) -> torch.Tensor:
    """What the body of a loaded base makes of two rows."""
    folder = stages.checkout(record.files, where / record.digest[7:15])
    model = BertForMaskedLM.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([[2, 9, 7, 3], [2, 5, 3, 0]])).logits
    return found


@pytest.mark.parametrize(
    "nest",
    [
        bare,
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": tensors, "optimizer": {"step": 1}},
        lambda tensors: {f"module.{name}": each for name, each in tensors.items()},
        lambda tensors: {"model_state_dict": {f"_orig_mod.module.{name}": each for name, each in tensors.items()}},
    ],
    ids=["bare", "state_dict", "model", "DataParallel", "compiled"],
)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["mine.pt", "pytorch_model.bin"])
def test_a_state_dict_is_the_model_that_it_was_saved_from(
    bert: Path, tmp_path: Path, name: str, zipped: bool, nest: Any
) -> None:
    expected = logits(load.fn(base("bert"), str(bert.parent)), tmp_path)
    tensors = nest(BertForMaskedLM.from_pretrained(bert).state_dict())
    (bert / "model.safetensors").unlink()
    torch.save(tensors, bert / name, _use_new_zipfile_serialization=zipped)
    found = load.fn(base("bert/mine.pt" if name == "mine.pt" else "bert"), str(bert.parent))
    assert torch.equal(logits(found, tmp_path), expected)
    assert set(found.files) >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not [file for file in found.files if file.endswith((".pt", ".bin"))]


def test_a_state_dict_in_parts_is_one_model(bert: Path, tmp_path: Path) -> None:
    expected = logits(load.fn(base("bert"), str(bert.parent)), tmp_path)
    tensors = BertForMaskedLM.from_pretrained(bert).state_dict()
    (bert / "model.safetensors").unlink()
    for number, names in enumerate((list(tensors)[:9], list(tensors)[9:]), start=1):
        torch.save({name: tensors[name] for name in names}, bert / f"pytorch_model-0000{number}-of-00002.bin")
    assert torch.equal(logits(load.fn(base("bert"), str(bert.parent)), tmp_path), expected)
    (bert / "pytorch_model-00002-of-00002.bin").unlink()
    assert code_of("bert", bert.parent) == "E-MODEL-SHAPE"


def test_a_model_pickled_whole_is_refused_with_the_lines_that_convert_it(bert: Path) -> None:
    torch.save(BertForMaskedLM.from_pretrained(bert), bert / "mine.pt")
    with pytest.raises(
        BadInput, match=r"transformers.*BertForMaskedLM.*torch.save\(model.state_dict\(\), .mine.pt.\)$"
    ):
        load.fn(base("bert/mine.pt"), str(bert.parent))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"epoch": 3, "weights": [1.0]}, "E-MODEL-FORMAT"),
        ([torch.zeros(2)], "E-MODEL-FORMAT"),
        ({}, "E-MODEL-FORMAT"),
        ({"a": torch.zeros(1).expand(10**9, 10**9)}, "E-MODEL-FORMAT"),
        ({f"a{n}": shared for shared in [torch.zeros(4000)] for n in range(50)}, "E-MODEL-FORMAT"),
        ({"a": torch.eye(2).to_sparse()}, "E-MODEL-FORMAT"),
    ],
    ids=["numbers", "a list", "nothing", "expanded", "the same again and again", "sparse"],
)
def test_what_is_no_plain_state_dict_is_refused(bert: Path, content: Any, code: str) -> None:
    torch.save(content, bert / "mine.pt")
    assert code_of("bert/mine.pt", bert.parent) == code


def test_a_model_in_mlflow_is_found_by_version_and_alias(bert: Path, tmp_path: Path, mlflow_at_home: None) -> None:
    expected = logits(load.fn(base("bert"), str(bert.parent)), tmp_path)
    client = client_of(registry())
    client.create_registered_model("Theirs")
    client.create_model_version("Theirs", logged(bert, tmp_path / "theirs").as_uri())
    client.set_registered_model_alias("Theirs", "live", "1")
    for name in ("mlflow://Theirs/1", "mlflow://Theirs@live"):
        found = load.fn(base(name), str(tmp_path))
        assert torch.equal(logits(found, tmp_path), expected)
        assert set(found.files) >= {"config.json", "model.safetensors", "tokenizer.json"}
        assert "MLmodel" not in found.files
    assert code_of("mlflow://Theirs/2", tmp_path) == "E-MLFLOW-MISSING"
    assert code_of("mlflow://Theirs@gone", tmp_path) == "E-MLFLOW-MISSING"


def test_a_bundle_that_we_registered_is_found_in_mlflow(bert: Path, tmp_path: Path, mlflow_at_home: None) -> None:
    before = load.fn(base("bert"), str(bert.parent))
    there = registry()
    run = there.start("ours", "sha256:a", "night", {})
    there.register("ours", "sha256:a", run, bert, {"text": "text"}, {}, "card")
    found = load.fn(base("mlflow://ours/1"), str(tmp_path))
    assert torch.equal(logits(found, tmp_path), logits(before, tmp_path))
    assert found.files == before.files


def client_of(there: Registry) -> Any:
    """MLflow's own client, on the same database."""
    return there._client


def logged(bert: Path, folder: Path) -> Path:
    """A model as `mlflow.transformers` lays it out: weights in one folder, the tokenizer in another, and code."""
    shutil.copytree(bert, folder / "model", ignore=shutil.ignore_patterns("tokenizer*"))
    shutil.copytree(bert, folder / "components" / "tokenizer", ignore=shutil.ignore_patterns("model*", "config*"))
    (folder / "MLmodel").write_text("flavors: {transformers: {}}")
    (folder / "model" / "modeling.py").write_text("raise SystemExit")
    return folder
