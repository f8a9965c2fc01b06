"""Datasets of the Hugging Face Hub, streamed at a pinned revision; no code of theirs is run.

The Hub is asked what it has before `datasets` is: that fails within 5 s where there is no network (`datasets` tries for
23 s), and it shows a loading script before anything is loaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.data.readers.lines import Row
from tasks.data.readers.parquet import class_names, named
from tasks.errors import BadInput, Coded, Denied, Missing, Unreachable

TIMEOUT = 5  # seconds


def splits(name: str, revision: str) -> dict[str, Any]:
    """The streaming datasets of all splits, by the Hub's names.

    Raises:
        Unreachable, Denied, Missing: E-HUB-UNAVAILABLE, E-HUB-AUTH, E-HUB-MISSING.
        BadInput: E-POLICY for a dataset with a loading script, E-HUB-DATASET for one that `datasets` cannot read.
    """
    with coded(name):
        _refuse_scripts(name, revision)
        from datasets import load_dataset

        return dict(load_dataset(name, revision=revision, streaming=True))


def rows(dataset: Any, name: str) -> Iterator[Row]:
    """A Row for every row of a (streaming) dataset, with class names instead of numbers; raises as `splits`."""
    classes = class_names(dataset.features.to_dict() if dataset.features else {})
    with coded(name):
        for number, values in enumerate(dataset, 1):
            yield Row(number, named(dict(values), classes))


def _refuse_scripts(name: str, revision: str) -> None:
    from huggingface_hub import HfApi

    if Path(name).exists():
        raise BadInput("E-HUB-DATASET", f"./{name} would be read instead of hf://{name}; start in another folder")
    files = [file.rfilename for file in HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT).siblings or ()]
    if scripts := [file for file in files if file.endswith(".py")]:
        raise BadInput("E-POLICY", f"hf://{name} has {scripts[0]!r:.80}: dataset scripts are not run; take plain files")


@contextmanager
def coded(name: str, otherwise: str = "E-HUB-DATASET", copy: str = "parquet or jsonl") -> Iterator[None]:
    """Whatever the Hub's libraries raise becomes a coded error, `otherwise` where the Hub is not to blame."""
    try:
        yield
    except Coded:
        raise
    except Exception as error:
        raise _sorted(error, name, otherwise, copy) from error


def _sorted(error: BaseException, name: str, otherwise: str, copy: str) -> Coded:
    """An error of the Hub's libraries by its remedy."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:  # it is not here, since it could not be had
        return _sorted(error.__cause__, name, otherwise, copy)
    status = getattr(getattr(error, "response", None), "status_code", None)
    found = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:300]
    if type(error).__name__ == "GatedRepoError" or status == 403:
        return Denied("E-HUB-AUTH", f"hf://{name} is closed to us ({found}); ask for access and set HF_TOKEN")
    if status in (401, 404) or isinstance(error, FileNotFoundError):
        return Missing("E-HUB-MISSING", f"no hf://{name} at this revision ({found}); mend the name, or set HF_TOKEN")
    network = isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "aiohttp"))
    if network and (status is None or status >= 500 or status in (408, 429)):
        return Unreachable(
            "E-HUB-UNAVAILABLE", f"the Hub does not serve hf://{name} ({found}); try later or use a copy"
        )
    return BadInput(otherwise, f"hf://{name} cannot be read ({found}); take a copy as {copy}")
