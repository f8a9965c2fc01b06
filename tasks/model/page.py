"""The report as a page that needs nothing but itself: no script, no request, pictures inside.

`exam.html` and `page.css` are its parts that the page of a whole run takes as well.
"""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent


def write(folder: Path, facts: dict[str, Any]) -> None:
    """`report.html` in `folder`, from its facts and pictures."""
    pictures = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.png"))}
    (folder / "report.html").write_text(rendered("report.html", HERE, **shown(facts, pictures)))


def shown(facts: dict[str, Any], pictures: dict[str, bytes]) -> dict[str, Any]:
    """What `exam.html` shows of a report."""
    return {
        "facts": facts,
        "pictures": {name: base64.b64encode(content).decode() for name, content in pictures.items()},
        "compared": list(next(iter(facts["baselines"].values()), ())),
        "classes": sorted(facts["support"], key=lambda name: (facts["per_class"]["f1"].get(name, 0.0), name)),
    }


def rendered(template: str, *folders: Path, **values: Any) -> str:
    """A page from a template in one of `folders`; every value is text, whatever it holds."""
    there = Environment(loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined)
    return there.get_template(template).render(values)
