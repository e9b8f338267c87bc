"""Addresses to listen on."""

from __future__ import annotations


def overlap(one: str | None, other: str | None) -> bool:
    """Whether two addresses to listen on can't have the same port; None and "" are every address."""
    if _is_of_6(one) != _is_of_6(other) and one and other:
        return False  # an IPv6 socket takes no IPv4 here
    everywhere = (None, "", "0.0.0.0", "::")
    return one in everywhere or other in everywhere or one == other


def _is_of_6(host: str | None) -> bool:
    return ":" in (host or "")
