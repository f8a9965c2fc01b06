"""When something happens: cron, iCalendar rules and time zones, checked here before a server sees them.

The server's own parser (croniter) takes more: seconds, `@daily`, random fields, the 30th of February. What passes here
means the same to every cron, and comes at some time.
"""

import re
from zoneinfo import available_timezones

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days that a month may have
FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (  # what it is called, from, to, names of its values
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("weekday", 0, 7, WEEKDAYS),
)
MAX_RULE = 1000  # characters

_ITEM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[1-9][0-9]?))?")


def checked_cron(value: str) -> str:
    """Five fields: minute, hour, day, month and weekday, each `*`, numbers, names, ranges or steps."""
    texts = value.split()
    if len(texts) != len(FIELDS):
        raise ValueError("five fields (minute hour day month weekday), such as '0 3 * * *'")
    _, _, days, months, _ = (_values(text, *field) for text, field in zip(texts, FIELDS, strict=True))
    if texts[4] == "*" and all(day > LONGEST[month - 1] for day in days for month in months):
        raise ValueError("a day that one of its months has")
    return value


def checked_rule(value: str) -> str:
    """A recurrence rule of iCalendar (RFC 5545)."""
    from dateutil import rrule  # type: ignore[import-untyped]  # not at the top: few recipes have one

    try:
        found = len(value) <= MAX_RULE and next(iter(rrule.rrulestr(value)), None)
    except (ValueError, TypeError, KeyError, AttributeError):  # what it raises on what it does not know
        found = None
    if not found:
        raise ValueError("a rule of iCalendar, such as 'FREQ=MONTHLY;BYMONTHDAY=1;BYHOUR=4;BYMINUTE=0;BYSECOND=0'")
    return value


def checked_zone(value: str) -> str:
    """A time zone of the IANA database."""
    if value not in available_timezones():
        raise ValueError("a time zone such as Europe/Berlin or UTC")
    return value


def _values(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    """The values that a field of cron means."""
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{_article(name)} of {low}..{high}, not {item!r:.20}")
        first, last = match["first"], match["last"]
        start = _number(first, name, low, high, names) if first else low
        end = _number(last, name, low, high, names) if last else (start if first and not match["step"] else high)
        if end < start:
            raise ValueError(f"a range of {name}s that goes up, not {item!r:.20}")
        found |= set(range(start, end + 1, int(match["step"] or 1)))
    return found


def _number(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    lower = text.lower()
    value = names.index(lower) + low if lower in names else int(text) if re.fullmatch("[0-9]{1,2}", text) else -1
    if not low <= value <= high:
        raise ValueError(f"{_article(name)} of {low}..{high}, not {text!r:.20}")
    return value


def _article(name: str) -> str:
    return f"an {name}" if name == "hour" else f"a {name}"
