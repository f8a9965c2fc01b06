"""Entities in rows of tagged words: whole, and with their type. The numbers equal seqeval's; `O` is no entity."""

from collections.abc import Sequence

from seqeval.metrics.sequence_labeling import get_entities

from tasks.metrics.counts import ENTITIES, Counts


def marks(truth: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], tags: Sequence[str]) -> Counts:
    """What rows of tags earn; the classes are the types of entity that `tags`, such as `B-PER`, name."""
    classes = entity_types(tags)
    number = {name: place for place, name in enumerate(classes)}
    entries, right = [], []
    for row, (true, guess) in enumerate(zip(truth, answers, strict=True)):
        there, found = spans(true), spans(guess)
        entries += [(row, 2, number.get(each[0])) for each in there]
        entries += [(row, 1, number.get(each[0])) for each in found]
        entries += [(row, 0, number.get(each[0])) for each in there & found]
        right.append(sum(t == g for t, g in zip(true, guess, strict=True)))
    return Counts.of(entries, right, [len(each) for each in truth], classes, ENTITIES)


def spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The entities of a row as (type, first word, last word), as seqeval finds them.

    Plain tags, such as parts of speech, are entities of one word each.
    """
    if any("-" in tag for tag in tags) or set(tags) <= {"O"}:
        return set(get_entities(iobes(tags)))
    return {(tag, place, place) for place, tag in enumerate(tags) if tag != "O"}


def iobes(tags: Sequence[str]) -> list[str]:
    """Tags as seqeval knows them: what BILOU calls last and unit, it calls end and single."""
    return [{"L-": "E-", "U-": "S-"}.get(tag[:2], tag[:2]) + tag[2:] for tag in tags]


def entity_types(tags: Sequence[str]) -> tuple[str, ...]:
    """The types of entity that `tags` name, sorted."""
    return tuple(sorted({kind for tag in tags for kind, _, _ in spans([tag])}))
