"""Which machines an https address may name: those of the open internet.

An address comes from whoever may start a run; the machine that follows it often stands inside a network that trusts
it. So loopback, link-local (a cloud's metadata service among them), private and reserved addresses are refused, by
the numbers that the name resolves to: a name of the open internet may resolve to any of them.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from pipeline.errors import InputError, StoreError

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv6 addresses that stand for IPv4 ones (RFC 6052)."""


def check_host(root: str, url: str) -> None:
    """Resolve a host and refuse it if any of its addresses is not of the open internet.

    Args:
        root: host, with a port or without.
        url: what messages call the address.

    Raises:
        InputError: not a host, or one that is not allowed.
        StoreError: its name cannot be resolved.
    """
    try:
        parts = urlsplit(f"//{root}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{url}: {root!r} is no host ({error})") from error
    if not host:
        raise InputError(f"{url}: {root!r} is no host")
    try:
        found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StoreError(f"{url}: the name {host!r} cannot be resolved ({error})") from error
    for *_, (number, *_) in found:
        if not is_public(str(number)):
            raise InputError(
                f"{url}: {host} is {number}, an address of this machine or of a private network, which is not read;"
                " set OVERTILE_ALLOW_PRIVATE=1 if that is meant"
            )


def is_public(number: str) -> bool:
    """Whether a numeric address is one of the open internet; one that carries another, if both are."""
    ip: _Ip = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried: list[_Ip | None] = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _TRANSLATED:
            carried.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        inner = [c for c in carried if c is not None]
        if inner:
            return all(_is_global(c) for c in inner)
    return _is_global(ip)


def _is_global(ip: _Ip) -> bool:
    return ip.is_global and not ip.is_multicast
