"""Addresses: who may ask, judged by the Host and Origin of a request.

A page of another site can make a browser ask, under a name of its own that it lets point to this machine (DNS
rebinding). So a Host has to be a name that this server goes by, or, where it is open to the network, a plain
number, which cannot be made to point elsewhere. The port is free: an SSH tunnel has its own.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether a name or address to listen on can be reached from this machine alone."""
    number = _number(host)
    return host.lower() == "localhost" if number is None else number.is_loopback


def own_names(host: str) -> frozenset[str]:
    """Names that a server which listens on `host` goes by; lower case, IPv6 without brackets."""
    names = {"localhost", "127.0.0.1", "::1", host.lower().strip("[]")}
    if not is_loopback(host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


def is_own(host_header: str, names: frozenset[str], numbers: bool) -> bool:
    """Whether a Host header (`name`, `name:port`, `[::1]:port`) is one of ours.

    Args:
        host_header: as it was sent.
        names: see `own_names`.
        numbers: whether any address that is a plain number will do.
    """
    found = _HOST.fullmatch(host_header)
    if found is None:
        return False
    name = found[1].strip("[]").lower()
    return name in names or (numbers and _number(name) is not None)


def same_site(origin: str, host_header: str, names: frozenset[str], numbers: bool) -> bool:
    """Whether an Origin header is a page of this very server, by any of its names."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not is_own(parts.netloc, names, numbers):
        return False
    asked = _HOST.fullmatch(host_header)
    return asked is not None and (asked[2] or "") == ("" if port is None else f":{port}")


def url_host(host: str) -> str:
    """A name or address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
