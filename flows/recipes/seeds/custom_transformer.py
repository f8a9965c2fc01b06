"""A Transformer of one's own, read from `my_model.pt`: an encoder of PyTorch's own layers, and a label from their mean.

    python flows/recipes/seeds/custom_transformer.py .vernal/models/minilm .vernal/models/custom

writes such a file: the weights of any BERT under the names that they have here, its tokenizer beside them. Its head
has one label, so that whoever names the file gets one drawn for labels of their own.
"""

import json
import sys
from pathlib import Path
from shutil import copyfile

import torch
from safetensors.torch import load_file
from torch import nn

Tensors = dict[str, torch.Tensor]

NAMES = {  # of a layer: here -> in BERT
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}


class CustomTransformer(nn.Module):
    """An encoder with learned positions, normalised behind each half of a layer (Vaswani et al. 2017).

    Args:
        dff: width of the feed-forward layer.
        pe_input: positions that it knows; no row may be longer.
        vocabulary: number of token ids.
        labels: number of outputs.
        length: tokens of the longest row.
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        num_heads: int,
        dff: int,
        pe_input: int,
        vocabulary: int,
        labels: int,
        length: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if length > pe_input:
            raise ValueError(f"rows of {length} tokens, but pe_input is {pe_input}")
        self.tokens = nn.Embedding(vocabulary, d_model)
        self.positions = nn.Embedding(pe_input, d_model)
        self.norm = nn.LayerNorm(d_model, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d_model, num_heads, dff, dropout, "gelu", 1e-12, batch_first=True)
            for _ in range(num_layers)
        )
        self.head = nn.Linear(d_model, labels)

    def states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """What the last layer makes of each token, (rows, tokens, d_model)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        states: torch.Tensor = self.dropout(self.norm(self.tokens(input_ids) + self.positions(places)))
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=attention_mask == 0)
        return states

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits, (rows, labels), of token ids and their mask, both (rows, tokens)."""
        mask = attention_mask[..., None]
        mean = (self.states(input_ids, attention_mask) * mask).sum(1) / mask.sum(1)  # (rows, d_model)
        logits: torch.Tensor = self.head(self.dropout(mean))
        return logits


def converted(bert: Tensors, layers: int) -> Tensors:
    """The weights of a BERT as those of a `CustomTransformer` with one label."""
    bert = {name.removeprefix("bert."): tensor for name, tensor in bert.items()}
    found = {
        "tokens.weight": bert["embeddings.word_embeddings.weight"],
        # a text alone is segment 0 throughout
        "positions.weight": bert["embeddings.position_embeddings.weight"]
        + bert["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = bert[f"embeddings.LayerNorm.{kind}"]
        for number in range(layers):
            here, there = f"layers.{number}", f"encoder.layer.{number}"
            projections = [bert[f"{there}.attention.self.{each}.{kind}"] for each in ("query", "key", "value")]
            found[f"{here}.self_attn.in_proj_{kind}"] = torch.cat(projections)
            found |= {f"{here}.{ours}.{kind}": bert[f"{there}.{theirs}.{kind}"] for ours, theirs in NAMES.items()}
    width = found["norm.bias"].shape[0]
    return found | {"head.weight": torch.zeros(1, width), "head.bias": torch.zeros(1)}


def convert(bert: Path, folder: Path) -> None:
    """`my_model.pt` and its tokenizer in `folder`, from the folder of a BERT."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = json.loads((bert / "config.json").read_text())["num_hidden_layers"]
    torch.save(converted(load_file(bert / "model.safetensors"), layers), folder / "my_model.pt")
    copyfile(bert / "tokenizer.json", folder / "tokenizer.json")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
