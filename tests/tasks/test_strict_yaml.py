"""What the reader makes of values, and where it says that a fault stands. Whole bad files stand in `tests/corpus`."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import strict_yaml
from tasks.errors import BadInput
from tasks.strict_yaml import MAX_DEPTH, read, scalar


def values(text: str) -> dict[str, Any]:
    return read(text.encode(), "recipe.yaml").values


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        read(text.encode(), "recipe.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("2E+3", 2000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0.25", -0.25),
        ("0123", 123),
        ("+7", 7),
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("2026-03-01", "2026-03-01"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("", None),
        ("NULL", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("1e-5; rm", "1e-5; rm"),
        ("9" * 21, "9" * 21),
    ],
)
def test_a_plain_scalar_is_read_as_yaml_1_2_reads_it(text: str, value: object) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_read_so_that_the_recipe_can_refuse_it_by_name() -> None:
    assert math.isnan(scalar(".NaN"))


def test_quotes_make_text_of_anything() -> None:
    assert values("a: '1e-5'\nb: \"true\"\nc: |\n  12\n") == {"a": "1e-5", "b": "true", "c": "12\n"}


def test_keys_are_text_even_where_they_look_like_something_else() -> None:
    assert values("NO: 1\n1: 2\ntrue: 3\n") == {"NO": 1, "1": 2, "true": 3}


def test_every_key_and_item_knows_its_line() -> None:
    document = read(b"name: a\ntrain:\n  epochs: 3\n  floors: [1,\n    2]\n", "recipe.yaml")
    assert document.lines[("name",)] == 1
    assert document.lines[("train",)] == 2
    assert document.lines[("train", "epochs")] == 3
    assert document.lines[("train", "floors", 1)] == 5


def test_a_byte_order_mark_is_left_out() -> None:
    assert values("\ufeffname: a\n") == {"name": "a"}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a: 1\nb: !!str 2\n", "E-YAML-TAG recipe.yaml line 2: tag 'tag:yaml.org,2002:str' is not allowed; remove it"),
        ("a: &x 1\nb: *x\n", "E-YAML-ALIAS recipe.yaml line 1: anchors and aliases are not allowed; write it out"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "E-YAML-DUPKEY recipe.yaml: a.b on lines 2 and 4; keep one"),
        ("a: 1\n'a': 2\n", "E-YAML-DUPKEY recipe.yaml: a on lines 1 and 2; keep one"),
        ("a: 1\n\tb: 2\n", "E-YAML-SYNTAX recipe.yaml line 2: found character '\\t' that cannot start any token"),
        ("a: {b: 1\n", "E-YAML-SYNTAX recipe.yaml line 2: expected ',' or '}'"),
        ("a: 1\n? [b, c]\n: 2\n", "E-YAML-SHAPE recipe.yaml line 2: a key must be plain text"),
        ("just a text\n", "E-YAML-SHAPE recipe.yaml: found 'just a text', wanted one mapping of sections"),
        ("a: 1\nb: x\u200by\n", "E-YAML-ENC recipe.yaml line 2: invisible character U+200B; remove it"),
        ('a: 1\nb: "x\\u202ey"\n', "E-YAML-ENC recipe.yaml line 2: invisible character U+202E; remove it"),
        ('a: 1\n"b\\0": 2\n', "E-YAML-ENC recipe.yaml line 2: invisible character U+0000; remove it"),
    ],
)
def test_what_a_recipe_has_no_use_for_is_refused_with_its_line(text: str, answer: str) -> None:
    assert refusal(text).startswith(answer)


def test_twenty_levels_are_read_and_one_more_is_refused() -> None:
    def nested(levels: int) -> str:
        return "a: " + "[" * levels + "]" * levels + "\n"

    assert values(nested(MAX_DEPTH))["a"]
    assert refusal(nested(MAX_DEPTH + 1)).startswith("E-YAML-DEPTH recipe.yaml line 1: nested deeper than 20")


def test_a_bomb_of_nesting_is_refused_before_it_costs_anything() -> None:
    began = time.process_time()
    refusal("a: " + "[" * 60_000)
    assert time.process_time() - began < 2  # PyYAML itself ends with a RecursionError


KEYS = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=12)
)
JSON = st.dictionaries(
    KEYS,
    st.recursive(LEAVES, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(KEYS, deeper, max_size=3)),
    max_size=4,
)


@given(JSON)
def test_json_is_read_as_json(document: dict[str, Any]) -> None:
    assert values(json.dumps(document, ensure_ascii=False)) == document


def test_the_limit_of_size_holds_before_anything_is_parsed() -> None:
    assert values("a: 1\n" + "#" * (strict_yaml.MAX_BYTES - 5)) == {"a": 1}
    assert refusal("{" * (strict_yaml.MAX_BYTES + 1)).startswith("E-YAML-SIZE recipe.yaml: 65537 bytes > 65536")
