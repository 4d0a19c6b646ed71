"""Connections for an isolated build: a name is resolved once, what it stands for judged, and just that connected to."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from asyncio.staggered import staggered_race

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# How long, in seconds, an address has to answer before the next one is tried beside it.
_DELAY = 0.25
# Of this machine, of the link, of everybody: 0.0.0.0 and :: are this machine to `connect`.
_NEAR = [
    ipaddress.ip_network(text)
    for text in "0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/3 ::/128 ::1/128 fe80::/10 fec0::/10 ff00::/8".split()
]
# Where clouds tell a machine its credentials, beside 169.254.169.254: Amazon's and Google's by IPv6, Alibaba, Oracle,
# Azure.
_METADATA = [
    ipaddress.ip_address(text)
    for text in "fd00:ec2::254 fd20:ce::254 100.100.100.200 192.0.0.192 168.63.129.16".split()
]
# IPv6 networks that hold an IPv4 address in their last bits.
_HOLDING = [ipaddress.IPv6Network(text) for text in ("::ffff:0:0/96", "::/96", "64:ff9b::/96")]


# Names of the same, for whom the person's proxy would resolve them.
_NAMES = r"(?:.*\.)?localhost|metadata|metadata\.google\.internal"
# Nobody's, by RFC 5737 and 3849.
_NOBODYS = {4: "192.0.2.1", 6: "2001:db8::1"}


class GuardedError(Exception):
    """The name stands for nothing but addresses that only who is named may have."""


def is_guarded(host: str) -> bool:
    """Return whether the address is one of this machine, link-local, or a cloud's metadata service.

    Of names it is those that mean one of these everywhere.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return bool(re.fullmatch(_NAMES, host))
    return any(_is_near(each) or _is_own(each) for each in _list_meant(address))


async def connect(host: str, port: int, *, is_named: bool) -> socket.socket:
    """Return a socket that is connected to the host; GuardedError, OSError.

    Whoever answers for the name may give another address each time, so there is no second question.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    usable = [each for each in found if is_named or not is_guarded(str(each[4][0]))]
    if found and not usable:
        raise GuardedError(host)
    attempts = [lambda each=each: _try(each[0], each[4]) for each in usable]
    connected: socket.socket | None
    connected, _, errors = await staggered_race(attempts, _DELAY)
    if connected:
        return connected
    raise next((each for each in errors if isinstance(each, OSError)), OSError("it cannot be reached"))


async def _try(family: int, place: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, place)
    except BaseException:
        made.close()
        raise
    return made


def _list_meant(address: Address) -> list[Address]:
    """Return the address, and the IPv4 address in it where there is one."""
    meant: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _HOLDING):
            meant.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour:
            meant.append(address.sixtofour)
    return meant


def _is_near(address: Address) -> bool:
    return address in _METADATA or any(address in network for network in _NEAR if network.version == address.version)


def _is_own(address: Address) -> bool:
    """Return whether the machine has the address: what listens on all of them listens there too."""
    family, text = (socket.AF_INET if address.version == 4 else socket.AF_INET6), str(address)
    if not _can_bind(family, text):
        return False
    if not _can_bind(family, _NOBODYS[address.version]):
        return True
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as tried:  # net.ipv4.ip_nonlocal_bind
        tried.connect((text, 9))  # which sends nothing
        return str(tried.getsockname()[0]) == text
    return False


def _can_bind(family: int, text: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as tried:
        tried.bind((text, 0))
        return True
    return False
