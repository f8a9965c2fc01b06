"""Our dropout is PyTorch's, but for the draws it takes."""

import pytest
import torch

from tasks.model import dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_share_asked_for_is_dropped_and_the_rest_makes_up_for_it(p: float, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    mask = dropout.mask(torch.ones(1000, 401, dtype=kind), p)
    dropped = mask == 0
    assert float(dropped.float().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / mask.numel()) ** 0.5)
    assert mask[~dropped].unique().tolist() == pytest.approx(
        [1 / (1 - p)], rel=1e-2 if kind == torch.bfloat16 else 1e-4
    )


def test_neighbours_of_one_draw_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (dropout.mask(torch.ones(400_000), 0.3) == 0).float().view(-1, 4)
    assert dropped.mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.006)
    assert torch.corrcoef(dropped.T).fill_diagonal_(0).abs().max() < 0.015


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything_can_be_dropped(p: float) -> None:
    assert dropout.Dropout(p)(torch.ones(7, 3)).unique().tolist() == [1 - p]


def test_a_seed_gives_a_mask() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return dropout.mask(torch.ones(10, 33), 0.5)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_outside_of_training_nothing_is_dropped() -> None:
    states = torch.ones(5, 5)
    assert dropout.Dropout(0.5).eval()(states) is states
