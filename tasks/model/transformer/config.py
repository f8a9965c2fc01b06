"""What describes a Transformer: nine sizes, which stacks it has, and how their layers are built."""

from typing import Any, Literal

from transformers import PretrainedConfig

Architecture = Literal["encoder", "decoder", "encoder-decoder"]


class TransformerConfig(PretrainedConfig):
    """A Transformer's size and form; a model of one stack has no use for the sizes of the target.

    Args:
        dff: width of the feed-forward layer.
        input_vocab_size, target_vocab_size: token ids of the input and of the target (none: the input's).
        pe_input, pe_target: positions that the encoding of the input and of the target knows (none: max_length).
        max_length: tokens of the longest row.
        tie_embeddings: one table embeds input and target and makes the logits (Vaswani et al. 2017, section 3.4).

    Raises:
        ValueError: sizes that do not go together.
    """

    model_type = "vernal-transformer"
    keys_to_ignore_at_inference = ("past_key_values",)
    attribute_map = {
        "hidden_act": "activation",
        "hidden_size": "d_model",
        "intermediate_size": "dff",
        "max_position_embeddings": "max_length",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "tie_word_embeddings": "tie_embeddings",
        "vocab_size": "input_vocab_size",
    }

    architecture: Architecture = "encoder"
    num_layers: int = 4
    d_model: int = 256
    num_heads: int = 4
    dff: int = 1024
    input_vocab_size: int = 8000
    target_vocab_size: int | None = None
    pe_input: int | None = None
    pe_target: int | None = None
    max_length: int = 512
    dropout: float = 0.1
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    glu: bool = True
    norm: Literal["pre", "post"] = "pre"
    positions: Literal["rotary", "learned", "sinusoidal", "none"] = "rotary"
    tie_embeddings: bool = True
    initializer_range: float = 0.02
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    decoder_start_token_id: int | None = None

    def __post_init__(self, **others: Any) -> None:
        self.is_encoder_decoder = self.architecture == "encoder-decoder"
        others.pop("is_encoder_decoder", None)
        super().__post_init__(**others)
        self.check()

    def check(self) -> None:
        """Raises ValueError unless the sizes go together."""
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model {self.d_model} with num_heads {self.num_heads}, wanted a multiple of the heads")
        if self.positions == "rotary" and self.d_model // self.num_heads % 2:
            each = self.d_model // self.num_heads
            raise ValueError(f"heads of width {each} (d_model / num_heads), wanted an even one for rotary positions")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"d_model {self.d_model}, wanted an even one for sinusoidal positions")
        if self.tie_embeddings and self.is_encoder_decoder and self.target_vocab != self.input_vocab_size:
            found = f"input_vocab_size {self.input_vocab_size} and target_vocab_size {self.target_vocab_size}"
            raise ValueError(f"{found} with tie_embeddings, wanted one vocabulary, or tie_embeddings false")
        for name, known in (("pe_input", self.pe_input), ("pe_target", self.pe_target)):
            if known is not None and known < self.max_length:
                raise ValueError(f"max_length {self.max_length} with {name} {known}, wanted at most {known}")

    @property
    def target_vocab(self) -> int:
        """Token ids of the target."""
        return self.target_vocab_size or self.input_vocab_size
