"""The README says what is so: commands that parse, settings and codes that exist."""

import re
from pathlib import Path

import pytest

from flows.__main__ import parser
from infra.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("vernal ")])
def test_every_command_in_the_readme_parses(line: str) -> None:
    given = parser().parse_args(line.split()[1:])
    if "recipe" in given:
        paths = given.recipe if isinstance(given.recipe, list) else [given.recipe]
        assert all((ROOT / path).is_file() for path in paths)


def test_every_make_target_in_the_readme_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", "\n".join(LINES) + README)) - {"are"} <= set(targets)


def test_every_command_is_in_the_readme() -> None:
    commands = next(each for each in parser()._actions if each.dest == "command").choices
    assert commands is not None
    assert [name for name in commands if f"| `vernal {name}" not in README] == []


def test_every_setting_is_in_the_readme() -> None:
    assert [name for name in Settings.model_fields if f"`VERNAL_{name.upper()}`" not in README] == []
