"""The file of a module of the user's own: found and read, never run. Light enough for `vernal check`."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions, version
from pathlib import Path

from tasks.errors import BadInput
from tasks.records import Digest

FILE = "modeling.py"  # name of the file in checkpoints and bundles, as repositories of models call such


@dataclass(frozen=True)
class Source:
    """Python source, and the installed distribution that it is of, as name==version; "" for a file of the recipe's."""

    content: bytes
    distribution: str = ""

    @property
    def digest(self) -> Digest:
        return digest(self.content)


def digest(content: bytes) -> Digest:
    """SHA-256 of a source."""
    return f"sha256:{sha256(content).hexdigest()}"


def find(module: str, beside: Path) -> Source:
    """The source of a file beside the recipe, or of the module of an installed package with this dotted name.

    Raises:
        BadInput: E-MODEL-MODULE, there is no such file, or no installed package has such a module.
    """
    if module.endswith(".py"):
        path = beside / module
        if not path.is_file():
            raise BadInput("E-MODEL-MODULE", f"{path}: there is no such file; put the module beside the recipe")
        return Source(path.read_bytes())
    installed = _installed(module)
    distributions = packages_distributions().get(module.partition(".")[0]) if installed else None  # reads all RECORDs
    if not (installed and distributions):
        message = f"{module}: no installed package has this module; install it, or name a file beside the recipe"
        raise BadInput("E-MODEL-MODULE", message)
    return Source(installed.read_bytes(), f"{distributions[0]}=={version(distributions[0])}")


def _installed(module: str) -> Path | None:
    """The file of a module, without importing the packages above it, which would run their code."""
    folders, name, found = None, "", None
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        found = PathFinder.find_spec(name, folders)
        if found is None:
            return None
        folders = found.submodule_search_locations
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None
