"""Two texts have one label together: paraphrase, entailment, whether an answer fits its question."""

from tasks.problems.text_classification import TextClassification


class PairClassification(TextClassification):
    """One label for a pair of texts, which the model reads as one row."""

    inputs = {"text": "text", "pair": "text"}


PROBLEM = PairClassification()
