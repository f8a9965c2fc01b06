"""The bases that a recipe may begin with, each with the dials that the recipe needs for it.

A tokenizer belongs to its base: where a recipe trains one and the base has its own, or the other way round, the
candidate changes `tokens.tokenizer` as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.settings import settings
from tasks import recipe
from tasks.recipe import Recipe

SIZES = ((2, 128), (4, 256), (6, 384))  # layers and width of our own, with heads of 64
TRAINED = "{train: bpe, vocabulary: 8000}"


@dataclass(frozen=True)
class Candidate:
    """A base, with the recipe that begins with it."""

    recipe: Recipe
    changes: tuple[str, ...] = ()  # as `--set` takes them

    @property
    def name(self) -> str:
        """What a table calls it."""
        base = self.recipe.model.base
        if isinstance(base, str):
            return base
        if isinstance(base, recipe.Own):
            return f"{base.class_} of {base.module}"
        return f"{base.architecture} {base.num_layers} x {base.d_model}"


def of(path: Path, changes: Sequence[str], named: Sequence[str]) -> list[Candidate]:
    """The bases that are named, as `--set model.base=` takes them; none: the recipe's own and all that are at hand.

    Raises:
        BadInput: see `recipe.load`.
    """
    own = Candidate(recipe.load(path, changes))
    if named:
        return [_with(path, changes, base) for base in dict.fromkeys(named)]
    others = [_with(path, changes, base) for base in at_hand(own.recipe)]
    return [own, *(each for each in others if each.name != own.name)]


def at_hand(what: Recipe) -> Iterator[str]:
    """Folders with a config right below the models root, if that is a folder, and sizes of our own."""
    yield from sorted(config.parent.name for config in Path(settings().models_root).glob("*/config.json"))
    base = what.model.base
    stack = base.architecture if isinstance(base, recipe.Architecture) else "encoder"
    for layers, width in SIZES:
        yield f"{{architecture: {stack}, num_layers: {layers}, d_model: {width}, num_heads: {width // 64}}}"


def _with(path: Path, changes: Sequence[str], base: str) -> Candidate:
    given = [f"model.base={base}"]
    what = recipe.load(path, [*changes, *given])
    trains = what.tokens.tokenizer != "base"
    if trains and isinstance(what.model.base, str):
        given.append("tokens.tokenizer=base")
    if not trains and isinstance(what.model.base, recipe.Architecture):
        given.append(f"tokens.tokenizer={TRAINED}")
    return Candidate(recipe.load(path, [*changes, *given]), tuple(given))
