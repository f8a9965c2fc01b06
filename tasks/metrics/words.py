"""What texts are compared by: words, or characters where a script sets no spaces."""

import re

CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_UNITS = re.compile(rf"{CJK.pattern}|(?:(?!{CJK.pattern})\S)+")


def is_cjk(text: str) -> bool:
    """Whether a text has Chinese characters or Japanese syllables."""
    return bool(CJK.search(text))


def units(text: str) -> list[str]:
    """Each Chinese or Japanese character alone, and what stands between spaces of the rest."""
    return _UNITS.findall(text)


def spans(text: str) -> list[tuple[int, int]]:
    """Where each of these units begins and ends, in characters."""
    return [found.span() for found in _UNITS.finditer(text)]
