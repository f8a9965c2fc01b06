"""Who else reaches a server of ours: every address of this machine is tried, without credentials.

A server that listens on 0.0.0.0 is reached under the addresses that others see, whatever address we call it by. Any
answer but a refusal counts: neither Prefect's nor MLflow's server asks for a login by itself. MLflow's refuses (403)
whoever calls it by a name that it does not know, and takes the caller's word for the name: that is no login.
"""

import socket
import urllib.request
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.error import HTTPError
from urllib.parse import urlsplit

PATIENCE = 15.0  # seconds; a port that is closed says so at once


def open_to_others(url: str, path: str) -> list[str]:
    """The addresses, other than loopback, under which `path` of the server at `url` answers without a login."""
    parts, host = urlsplit(url), _host(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    hosts = _addresses() if _here(host) else [host]
    return [host for host in hosts if _answers(f"{parts.scheme}://{_bracketed(host)}:{port}{path}")]


def in_private_network(url: str) -> bool:
    """Whether the server at `url` is another machine, or container, whose addresses are all private."""
    found = _resolved(_host(url))
    return bool(found) and not _here(_host(url)) and not any(_number(each).is_global for each in found)


def _answers(url: str) -> bool:
    """Whether it lets a stranger in, who calls it as we do, or `localhost` where that alone is refused."""
    said = _status(url)
    if said == 403:
        return _status(url, f"localhost:{urlsplit(url).port}") == 200
    return said not in (0, 401)


def _status(url: str, name: str = "") -> int:
    """What it answers to whoever calls it by its own name or by another; 0: nothing."""
    request = urllib.request.Request(url, headers={"Host": name} if name else {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status)
    except HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0


def _addresses() -> list[str]:
    """The addresses of this machine that others may use."""
    found = _resolved(socket.gethostname())
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # nothing is sent
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((anywhere, 9))
            found.add(str(probe.getsockname()[0]))
    return sorted(each for each in found if not _own(each))


def _resolved(host: str) -> set[str]:
    """The addresses of a name; none: nobody knows it, as happens to a machine's own name."""
    with suppress(socket.gaierror):
        return {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    return set()


def _here(host: str) -> bool:
    """Whether a name means this machine, whoever says it."""
    found = _resolved(host)
    return host == "localhost" or (bool(found) and all(map(_own, found)))


def _own(address: str) -> bool:
    """Whether an address means the machine on which it is said: 127.0.0.1, or 0.0.0.0."""
    return _number(address).is_loopback or _number(address).is_unspecified


def _number(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address.partition("%")[0])


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
