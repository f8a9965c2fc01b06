"""What to train: a YAML file becomes a frozen, validated, digested Recipe, one section for each step of the data's way.

If changing a value could change the weights or the verdict, it stands here; where things live and how fast they go is
the matter of `infra.settings`. When and where it runs (`schedule`, `triggers`, `work`) stands here as well, and is no
part of the digest. Every dial has one default, written once, in its section. A task is handed its section, not the
recipe, so that a new learning rate does not tokenise again.
"""

from tasks.recipe.reading import Received, load, parse
from tasks.recipe.sections import (
    OPERATED,
    Architecture,
    Data,
    Decay,
    Decoding,
    Drift,
    Exam,
    Files,
    Gate,
    Metric,
    Model,
    Own,
    Package,
    Recipe,
    Rules,
    Schedule,
    Section,
    SplitBy,
    Task,
    Tokens,
    Train,
    TrainedTokenizer,
    Triggers,
    Work,
)

__all__ = [
    "OPERATED",
    "Architecture",
    "Data",
    "Decay",
    "Decoding",
    "Drift",
    "Exam",
    "Files",
    "Gate",
    "Metric",
    "Model",
    "Own",
    "Package",
    "Received",
    "Recipe",
    "Rules",
    "Schedule",
    "Section",
    "SplitBy",
    "Task",
    "Tokens",
    "Train",
    "TrainedTokenizer",
    "Triggers",
    "Work",
    "load",
    "parse",
]
