"""The report as a page that needs nothing but itself: no script, no request, pictures inside."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def write(folder: Path, facts: dict[str, Any]) -> None:
    """`report.html` in `folder`, from its facts and pictures."""
    pictures = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in sorted(folder.glob("*.png"))}
    there = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    classes = sorted(facts["support"], key=lambda name: (facts["per_class"]["f1"].get(name, 0.0), name))
    rendered = there.get_template("report.html").render(facts=facts, pictures=pictures, classes=classes)
    (folder / "report.html").write_text(rendered)
