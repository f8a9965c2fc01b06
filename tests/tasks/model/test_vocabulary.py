"""Rows of an embedding that never occur need no update, and end as AdamW would have left them."""

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from tasks.model import loop, vocabulary
from tests.tasks.model import families, small

USED = np.array([5, 9, 11, 40])


def test_tokens_are_looked_up_as_before_whether_they_learn_or_not() -> None:
    model = families.built("bert").eval()
    ids = torch.arange(300)[None, :128]
    before = model.get_input_embeddings()(ids).detach()
    narrowed = vocabulary.narrow(model, USED)
    assert narrowed is not None
    assert narrowed.weight.shape == (5, 64)  # and the padding
    assert torch.equal(model.get_input_embeddings()(ids), before)
    assert torch.equal(narrowed.train()(torch.from_numpy(USED)), before[0, USED])


def test_a_token_that_was_not_announced_is_an_error_in_training() -> None:
    narrowed = vocabulary.narrow(families.built("bert"), USED)
    assert narrowed is not None
    with pytest.raises(IndexError):
        narrowed.train()(torch.tensor([6]))


def test_after_training_all_rows_are_what_the_optimizer_would_have_made_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def learned(worth: float) -> torch.nn.Embedding:
        monkeypatch.setattr(vocabulary, "WORTH", worth)
        model, plan = families.built("bert"), small.plan(epochs=4, weight_decay=0.5, learning_rate=1e-2)
        learner = small.learner(model, plan)
        assert (learner.table is None) == (worth == 0)
        for _ in loop.steps(learner, plan, loop.Progress()):
            pass
        found: torch.nn.Embedding = learner.release().get_input_embeddings()
        return found

    ours, theirs = learned(0.9), learned(0)
    assert type(ours) is torch.nn.Embedding
    assert ours.padding_idx == theirs.padding_idx == 0
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=1e-6)


def test_an_embedding_that_is_also_the_output_learns_as_a_whole() -> None:
    config = families.built("bert").config
    assert vocabulary.narrow(BertForMaskedLM(config), USED) is None


def test_a_vocabulary_that_is_in_use_learns_as_a_whole() -> None:
    assert vocabulary.narrow(families.built("bert"), np.arange(290)) is None
