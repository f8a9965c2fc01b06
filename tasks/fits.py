"""Whether a base can answer a problem, told from its config alone: light enough for `vernal check`."""

from collections.abc import Mapping
from typing import Any

from tasks.errors import BadInput
from tasks.problems import Problem

OURS = "vernal-transformer"  # model_type of architectures that a recipe describes
MODULE = "vernal-own"  # and of a module of the user's own
ENCODERS = frozenset(  # model types of transformers that read a row from both sides
    """albert bert big_bird camembert convbert data2vec-text deberta deberta-v2 distilbert electra ernie esm esmc
    eurobert flaubert fnet funnel gte ibert jina_embeddings_v3 layoutlm longformer luke megatron-bert mobilebert
    modernbert modernvbert mpnet mra neomme nomic_bert nystromformer perceiver reformer rembert roberta
    roberta-prelayernorm roc_bert roformer squeezebert tapas ultrabert ultravbert xlm xlm-roberta xlm-roberta-xl xmod
    yoso""".split()
)
TAGGERS = frozenset({"mt5", "t5", "t5gemma", "t5gemma2", "umt5"})  # those of two stacks that have a head for each token
WANTED = {  # what a head asks for, and why
    "AutoModelForCausalLM": ("a decoder", "each token is told from those before it alone"),
    "AutoModelForMaskedLM": ("an encoder", "a gap is told from both of its sides"),
    "AutoModelForSeq2SeqLM": ("an encoder-decoder", "one stack reads the source and another writes the target"),
}
TOKENS = "AutoModelForTokenClassification"
LABELS = ("AutoModelForSequenceClassification", TOKENS)


def require(problem: Problem, task: str, config: Mapping[str, Any]) -> None:
    """Raises BadInput E-MODEL-TASK unless a base of this config can answer the problem."""
    if fault := unfit(problem, config):
        raise BadInput("E-MODEL-TASK", f"a {config.get('model_type')} cannot be trained for {task}: {fault}")


def unfit(problem: Problem, config: Mapping[str, Any]) -> str | None:
    """Why a base cannot answer the problem, and what could; None: it can."""
    if config.get("model_type") == MODULE:
        return None if problem.head in LABELS else "a module of your own labels rows or tokens; take another base"
    kind = kind_of(config)
    wanted, why = WANTED.get(problem.head, (kind, ""))
    if kind != wanted:
        return f"it is {kind}, and {why}; take {wanted}"
    if config.get("model_type") == OURS and kind == "an encoder-decoder" and problem.head not in WANTED:
        return "two stacks write a sequence, they do not label one; take an encoder or a decoder"
    if kind == "an encoder-decoder" and problem.head == TOKENS and config.get("model_type") not in TAGGERS:
        return "transformers gives it no head for each token; take an encoder or a decoder"
    return None


def kind_of(config: Mapping[str, Any]) -> str:
    """What a config describes, with its article."""
    if config.get("model_type") == OURS:
        return {"decoder": "a decoder"}.get(config["architecture"], f"an {config['architecture']}")
    if config.get("is_encoder_decoder"):
        return "an encoder-decoder"
    return "an encoder" if config.get("model_type") in ENCODERS else "a decoder"
