"""The addresses of a network interface, by its name.  Linux only: elsewhere no interface is found."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

_GET_ADDRESS = 0x8915
"""SIOCGIFADDR, linux/sockios.h."""

_NAME_BYTES = 16
_LINK_LOCAL = "20"
"""The scope of fe80:: addresses in /proc/net/if_inet6: they are bound with the interface's name."""


def interface_address(name: str, family: socket.AddressFamily) -> str | None:
    """The interface's first address of that family; None if it has none, or there is no such interface."""
    return _ipv4(name) if family == socket.AF_INET else _ipv6(name)


def _ipv4(name: str) -> str | None:
    try:
        import fcntl
    except ImportError:
        return None
    encoded = name.encode()
    if len(encoded) >= _NAME_BYTES:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(OSError):
        # struct ifreq: the name, then a sockaddr_in: family, port, address.
        answer = fcntl.ioctl(any_socket, _GET_ADDRESS, struct.pack("256s", encoded))
        return socket.inet_ntop(socket.AF_INET, answer[20:24])
    return None


def _ipv6(name: str) -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, _, _, scope, _, interface = line.split()
            if interface == name:
                address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
                return f"{address}%{name}" if scope == _LINK_LOCAL else address
    return None
