"""Records of two small trained models, made once for all tests that only look at them; and a hub."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import makers
from tests.hub import Hub


@pytest.fixture(scope="session")
def made_of_texts(tmp_path_factory: pytest.TempPathFactory) -> makers.Made:
    home = tmp_path_factory.mktemp("texts") / "home"
    with makers.at_home(home):
        return makers.made(home, makers.recipe(exam={"slices": ["length", "product"]}))


@pytest.fixture(scope="session")
def made_of_words(tmp_path_factory: pytest.TempPathFactory) -> makers.Made:
    home = tmp_path_factory.mktemp("words") / "home"
    train = {"epochs": 8, "batch": 16, "learning_rate": 1e-2, "precision": "fp32"}
    with makers.at_home(home):
        return makers.made(home, makers.recipe("token-classification", train=train))


@pytest.fixture
def texts(home: Path, made_of_texts: makers.Made) -> Iterator[makers.Made]:
    """A model that labels texts; VERNAL_HOME is where its records are."""
    with makers.at_home(made_of_texts.home):
        yield made_of_texts


@pytest.fixture
def words(home: Path, made_of_words: makers.Made) -> Iterator[makers.Made]:
    """A model that labels words; VERNAL_HOME is where its records are."""
    with makers.at_home(made_of_words.home):
        yield made_of_words


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, which huggingface_hub takes for the public one."""
    from huggingface_hub import constants

    with Hub(tmp_path / "hub") as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        public, template = constants.ENDPOINT, constants.HUGGINGFACE_CO_URL_TEMPLATE
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template.replace(public, hub.endpoint))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        yield hub
        hub.shutdown()
        thread.join()
