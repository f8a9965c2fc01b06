"""Prefect's API as we use it: one client, bounded in time, whose errors have codes.

Prefect's own client tries 429, 502 and 503 again and waits for a server that restarts; here for seconds: who calls this
is at a terminal, or has better things to do than to wait for a page.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from infra.settings import prefect_url, quiet_prefect
from tasks.errors import BadInput, Coded, Denied, Unreachable

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PATIENCE = 10.0  # seconds for one answer
TRIES = 2  # more than the first, each after a longer pause


def there() -> str:
    """The API of the Prefect server in use, by the environment or, once Prefect is imported, by its profile; or ""."""
    if url := prefect_url():
        return url
    if "prefect" not in sys.modules:  # two seconds, for a person who has no server
        return ""
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value() or "")


@contextmanager
def api() -> Iterator["SyncPrefectClient"]:
    """A client of the server in use.

    Raises:
        BadInput: E-PREFECT-NONE, no server is configured; E-PREFECT-REFUSED, it does not take what was sent.
        Unreachable: E-PREFECT-DOWN. Denied: E-PREFECT-AUTH.
    """
    quiet_prefect()
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    url = there() or PREFECT_API_URL.value()
    if not url:
        raise BadInput(
            "E-PREFECT-NONE", "no Prefect server is configured; `vernal up` starts one here, or set PREFECT_API_URL"
        )
    try:
        with (
            temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: TRIES}),
            get_client(sync_client=True, httpx_settings={"timeout": PATIENCE}) as client,
        ):
            yield client
    except (ObjectNotFound, ObjectAlreadyExists) as error:
        raise refused(error.http_exc, url) from error
    except httpx.HTTPStatusError as error:
        raise refused(error, url) from error
    except (httpx.HTTPError, OSError) as error:
        found = " ".join(f"{type(error).__name__} {error}".split())
        raise Unreachable(
            "E-PREFECT-DOWN", f"Prefect at {shown(url)} does not answer: {found}; start it or mend PREFECT_API_URL"
        ) from error


def refused(error: Any, url: str) -> Coded:
    """An answer that is none, by its remedy."""
    status, found = error.response.status_code, " ".join(error.response.text.split())[:500]
    if status in (401, 403):
        return Denied(
            "E-PREFECT-AUTH",
            f"Prefect at {shown(url)} refuses us ({status}); mend PREFECT_API_AUTH_STRING or PREFECT_API_KEY",
        )
    if status >= 500 or status in (408, 429):
        return Unreachable(
            "E-PREFECT-DOWN",
            f"Prefect at {shown(url)} does not answer as it should: {status} {found}; see its log, try again",
        )
    return BadInput(
        "E-PREFECT-REFUSED", f"Prefect at {shown(url)} does not take it: {status} {found}; mend what it names"
    )


def shown(url: str) -> str:
    """The URL without a password."""
    return re.sub(r"//[^/@]*@", "//", url)
