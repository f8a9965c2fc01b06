"""Who else reaches a server of ours: every address of this machine is tried, without credentials.

A server that listens on 0.0.0.0 is reached under the addresses that others see, whatever address we call it by. Any
answer but a refusal counts: neither Prefect's nor MLflow's server asks for a login by itself.
"""

import socket
import urllib.request
from ipaddress import ip_address
from urllib.error import HTTPError
from urllib.parse import urlsplit

PATIENCE = 15.0  # seconds; a port that is closed says so at once


def open_to_others(url: str, path: str) -> list[str]:
    """The addresses, other than loopback, under which `path` of the server at `url` answers without a login."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    named = [] if _loopback(parts.hostname or "") else [parts.hostname or ""]
    ours = [] if named else _addresses()
    return [host for host in named + ours if _answers(f"{parts.scheme}://{_bracketed(host)}:{port}{path}")]


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=PATIENCE).close()
    except HTTPError as refusal:
        return refusal.code not in (401, 403)
    except OSError:
        return False
    return True


def _addresses() -> list[str]:
    """The addresses of this machine that others may use."""
    found = {str(each[4][0]) for each in socket.getaddrinfo(socket.gethostname(), None)}
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # nothing is sent
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((anywhere, 9))
                found.add(str(probe.getsockname()[0]))
            except OSError:
                continue
    return sorted(each for each in found if not _loopback(each))


def _loopback(host: str) -> bool:
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
