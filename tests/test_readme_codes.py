"""The README's table of errors has every code that the source can say, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"[EW]-[A-Z0-9]+(?:-[A-Z0-9]+)*\b")


def said(path: Path) -> Iterator[str]:
    """Codes at the beginning of a text in the source; docstrings speak of codes, they do not say them."""
    tree = ast.parse(path.read_text())
    spoken = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken:
            if found := CODE.match(node.value):
                yield found[0]


def test_the_readme_explains_every_code_and_no_other() -> None:
    sources = [path for floor in ("flows", "tasks", "infra") for path in (ROOT / floor).rglob("*.py")]
    source = {code for path in sources for code in said(path)}
    readme = set(re.findall(rf"^\| `({CODE.pattern})` \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert len(source) > 80
    assert sorted(source - readme) == []
    assert sorted(readme - source) == []
