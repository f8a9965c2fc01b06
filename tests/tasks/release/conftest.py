"""One small model for all tests of what comes after its exam."""

import pytest

from tests import makers


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> makers.Made:
    """A weak model with its home; each test gives it a name of its own."""
    home = tmp_path_factory.mktemp("release") / "home"
    with makers.at_home(home):
        return makers.made(home, makers.recipe(train={"epochs": 1, "batch": 16, "max_rows": 16, "precision": "fp32"}))
