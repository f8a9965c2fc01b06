"""Losses are torch's, summed, or what a hand computes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tasks.data.batches import Batch
from tasks.data.shards import IGNORED
from tasks.model import losses

DRAW = torch.Generator().manual_seed(0)


def batch(labels: Any, lengths: Any = (), groups: Any = None) -> Batch:
    nothing = np.zeros((0, 0), np.int64)
    return Batch(nothing, nothing, np.array(lengths, np.int64), labels, groups=groups)


def logits(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=DRAW)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_of_classes_is_the_cross_entropy_of_what_has_a_label(smoothing: float) -> None:
    found, labels = logits(5, 4), np.array([1, IGNORED, 3, 0, IGNORED])
    expected = functional.cross_entropy(found, torch.from_numpy(labels), label_smoothing=smoothing)
    assert float(losses.cross_entropy(found, batch(labels), smoothing) / 3) == pytest.approx(float(expected), abs=1e-6)


def test_of_several_labels_is_the_mean_over_classes_of_their_binary_cross_entropy() -> None:
    found, labels = logits(3, 4), np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    expected = functional.binary_cross_entropy_with_logits(found, torch.from_numpy(labels))
    assert float(losses.binary_cross_entropy(found, batch(labels)) / 3) == pytest.approx(float(expected), abs=1e-6)


def test_smoothing_several_labels_moves_each_towards_a_half() -> None:
    found = losses.binary_cross_entropy(torch.zeros(1, 2), batch(np.array([[1, 0]])), 0.2)
    assert float(found) == pytest.approx(math.log(2))
    sure = losses.binary_cross_entropy(torch.full((1, 1), 50.0), batch(np.array([[1]])), 0.2)
    assert float(sure) == pytest.approx(0.1 * 50)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2)])
def test_of_numbers_is_their_squared_error(shape: tuple[int, ...]) -> None:
    found, labels = logits(3, shape[-1] if len(shape) > 1 else 1), np.arange(math.prod(shape), dtype=np.float32)
    expected = functional.mse_loss(found.flatten(), torch.from_numpy(labels))
    got = losses.squared_error(found, batch(labels.reshape(shape)))
    assert float(got / 3) == pytest.approx(float(expected), abs=1e-6)


def test_of_whole_numbers_too() -> None:
    assert float(losses.squared_error(torch.tensor([[1.5], [4.0]]), batch(np.array([1, 2])))) == 0.25 + 4


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_of_a_span_is_the_mean_of_two_cross_entropies_among_the_tokens_of_its_row(smoothing: float) -> None:
    found, lengths, labels = logits(9, 2), (4, 2, 3), np.array([[1, 3], [0, 1], [2, 2]])
    expected = 0.0
    for row, each in enumerate(found.split(lengths)):
        for side in (0, 1):
            right = torch.tensor([labels[row, side]])
            expected += float(functional.cross_entropy(each[None, :, side], right, label_smoothing=smoothing)) / 2
    assert float(losses.span(found, batch(labels, lengths), smoothing)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_of_a_choice_is_the_cross_entropy_among_the_sequences_of_its_row(smoothing: float) -> None:
    found, groups, labels = logits(6, 1), np.array([0, 0, 1, 2, 2, 2]), np.array([1, 0, 2])
    expected = 0.0
    for each, label in zip(found[:, 0].split((2, 1, 3)), labels, strict=True):
        expected += float(functional.cross_entropy(each[None], torch.tensor([label]), label_smoothing=smoothing))
    assert float(losses.choice(found, batch(labels, groups=groups), smoothing)) == pytest.approx(expected, abs=1e-5)


def test_of_two_equal_choices_is_the_logarithm_of_two() -> None:
    groups, labels = np.array([0, 0]), np.array([1])
    assert float(losses.choice(torch.full((2, 1), 3.0), batch(labels, groups=groups))) == pytest.approx(math.log(2))


def test_scores_of_any_size_are_summed_without_overflow_and_have_the_gradient_of_a_softmax() -> None:
    scores = torch.tensor([[1000.0], [998.0], [-1000.0]], requires_grad=True)
    losses.choice(scores, batch(np.array([0]), groups=np.array([0, 0, 0]))).backward()
    assert scores.grad is not None
    expected = scores.detach()[:, 0].softmax(0) - torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(scores.grad[:, 0], expected)
