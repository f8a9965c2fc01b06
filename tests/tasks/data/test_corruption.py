"""What a masked language model has to guess is 15 % of the ordinary tokens, and the same for whoever asks again."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from tasks.data import batches, tokenisers
from tasks.data.corruption import Corruption
from tasks.data.shards import Shard
from tasks.errors import BadInput
from tasks.recipe import TrainedTokenizer

SPECIAL, MASK = (0, 2, 3), 4
HOW = Corruption(MASK, vocabulary=1000, special=SPECIAL, seed=5)


def shard(rows: int = 300, longest: int = 60) -> Shard:
    """Texts between the tokens 2 and 3."""
    draw = np.random.default_rng(0)
    texts = [np.array([2, *draw.integers(5, 1000, draw.integers(1, longest)), 3], np.uint16) for _ in range(rows)]
    return Shard(np.concatenate(texts), np.cumsum([0, *map(len, texts)]), np.empty(0, np.int32), "none")


def corrupted(rows: batches.Rows, draw: int = 0, how: Corruption = HOW) -> tuple[batches.Batch, batches.Batch]:
    """Rows as they are, and as the model gets them."""
    plain = batches.padded(shard(), rows, 0)
    return plain, how.of(plain, rows, draw)


def flat(batch: batches.Batch) -> np.ndarray:
    return batch.ids[batch.mask.astype(bool)]


def test_labels_are_what_stood_at_the_places_that_are_read_and_elsewhere_nothing_changes() -> None:
    plain, found = corrupted(np.arange(300))
    assert found.read is not None
    assert (flat(plain)[found.read] == found.labels).all()
    assert not np.isin(found.labels, SPECIAL).any()
    others = np.delete(np.arange(len(flat(plain))), found.read)
    assert (flat(plain)[others] == flat(found)[others]).all()
    assert (found.ids[found.mask == 0] == 0).all()


def test_of_what_is_chosen_four_fifths_are_masked_one_tenth_is_another_token_and_one_tenth_stays() -> None:
    plain, found = corrupted(np.arange(300))
    seen = flat(found)[found.read]
    assert len(found.labels) == pytest.approx(0.15 * (plain.lengths - 2).sum(), rel=0.05)
    assert (seen == MASK).mean() == pytest.approx(0.8, abs=0.04)
    assert (seen == found.labels).mean() == pytest.approx(0.1, abs=0.03)
    assert not np.isin(seen, SPECIAL).any()


def test_at_least_one_token_of_a_row_is_chosen_and_their_number_is_known_without_a_draw() -> None:
    for row in range(60):
        plain, found = corrupted(np.array([row]))
        assert len(found.labels) == max(1, round(0.15 * (int(plain.lengths[0]) - 2)))
        assert HOW.labels(shard(), np.array([row])) == len(found.labels)
    assert HOW.labels(shard(), np.arange(60)) == len(corrupted(np.arange(60))[1].labels)


def test_a_row_without_an_ordinary_token_has_nothing_to_guess() -> None:
    bare = Shard(np.array([2, 3, 2, 9, 3], np.uint16), np.array([0, 2, 5]), np.empty(0, np.int32), "none")
    found = HOW.of(batches.padded(bare, np.array([0, 1]), 0), np.array([0, 1]))
    assert found.labels.tolist() == [9]
    assert [HOW.labels(bare, np.array([row])) for row in (0, 1)] == [0, 1]


def test_a_draw_is_a_function_of_seed_epoch_and_row_whatever_it_is_batched_with() -> None:
    _, together = corrupted(np.array([7, 3, 9]), draw=2)
    for place, row in enumerate((7, 3, 9)):
        _, alone = corrupted(np.array([row]), draw=2)
        assert (together.ids[place, : alone.ids.shape[1]] == alone.ids[0]).all()
    for other in (
        corrupted(np.array([7, 3, 9]), draw=3),
        corrupted(np.array([7, 3, 9]), 2, Corruption(4, 1000, SPECIAL, 6)),
    ):
        assert (other[1].ids != together.ids).any()


def test_a_tokenizer_tells_what_hides_a_token_and_what_is_never_hidden() -> None:
    how = TrainedTokenizer(train="byte-bpe", vocabulary=300)
    tokenizer = tokenisers.train(how, lambda: ["to be or not to be"] * 3)
    found = Corruption.by(tokenizer, seed=3)
    assert (found.mask, found.special, found.seed) == (4, (0, 1, 2, 3, 4), 3)
    assert found.vocabulary == tokenizer.get_vocab_size()


def test_a_tokenizer_that_cannot_hide_a_token_is_refused() -> None:
    with pytest.raises(BadInput, match="E-TOK-MASK"):
        Corruption.by(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), seed=0)
