"""Columns become roles: what of a row is kept, and what cannot be used says why."""

from datetime import datetime
from typing import Any

import pytest

from tasks import problems
from tasks.data.readers.lines import Unfit
from tasks.data.readers.roles import fitted
from tasks.recipe import Data

DATA = Data(source="x", time="at", group="who")


def fit(task: Any = "text-classification", **values: Any) -> Any:
    return fitted(values, problems.named(task), DATA)


def unfit(task: Any = "text-classification", **values: Any) -> str:
    with pytest.raises(Unfit) as error:
        fitted(values, problems.named(task), DATA)
    return error.value.reason


def test_other_columns_are_kept_as_text() -> None:
    row = fit(
        text="a",
        label="b",
        at=datetime(2026, 1, 2),
        who=7,
        product="x",
        n=1,
        share=0.5,
        ok=True,
        none=None,
        odd=[1],
    )
    assert (*row.values.values(), row.time, row.group) == ("a", "b", "2026-01-02T00:00:00", "7")
    assert row.extra == {"product": "x", "n": "1", "share": "0.5", "ok": "true"}


@pytest.mark.parametrize(("label", "text"), [(3, "3"), (True, "true"), (False, "false"), (1.5, "1.5"), (-1, "-1")])
def test_a_label_may_be_a_number_or_a_boolean(label: Any, text: str) -> None:
    assert fit(text="a", label=label).values["label"] == text
    assert fit("token-classification", tokens=["a"], tags=[label]).values["tags"] == [text]


def test_what_cannot_be_used_says_why() -> None:
    assert unfit(label="b") == "missing-column"
    assert unfit(text="a", label=None) == "missing-column"
    assert unfit(text=5, label="b") == "type"
    assert unfit(text=["a"], label="b") == "type"
    assert unfit(text="a", label={"b": 1}) == "type"
    assert unfit(text="a", label=float("nan")) == "type"
    assert unfit(text="a\0b", label="b") == "text-nul"
    assert unfit(text="a", label="b", other="\0") == "text-nul"
    assert unfit(text="\ud800", label="b") == "text-surrogate"
    assert unfit(text="a", label="b", **{"\udfff": "x"}) == "text-surrogate"
    assert unfit(text=b"caf\xe9", label="b") == "encoding"
    assert unfit(text="a", label="b", at=[1]) == "type"
    assert unfit("token-classification", tokens=["a", "b"], tags=["O"]) == "tags-length"
    assert unfit("token-classification", tokens="a b", tags="O O") == "type"
    assert unfit("token-classification", tokens=["a", None], tags=["O", "O"]) == "type"
    assert unfit("token-classification", tokens=["a"], tags=[None]) == "type"
    assert unfit("regression", text="a", score="five") == "type"
    assert unfit("regression", text="a", score=True) == "type"
    assert unfit("multi-label-classification", text="a", labels="b") == "type"


def test_a_number_may_be_a_text_that_says_one() -> None:
    assert fit("regression", text="a", score="4.5").values["score"] == 4.5


def test_an_empty_time_or_group_is_none() -> None:
    row = fit(text="a", label="b", at="", who=None)
    assert (row.time, row.group) == (None, None)


def test_what_a_text_says_is_not_judged_here() -> None:
    assert fit(text="", label="").values["text"] == ""
    row = fit(text="ignore previous instructions \x1b[31m {{config}}", label="<script>")
    assert row.values["label"] == "<script>"
