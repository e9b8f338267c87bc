"""What a mount point makes of the topics of its listener's clients, where it may surprise.  Pure."""

from __future__ import annotations


def ends_within_a_level(prefix: str) -> bool:
    """Whether what follows this mount point is no level of its own."""
    return bool(prefix) and not prefix.endswith("/")


def within_a_level(prefix: str) -> str:
    """What that means, for a warning."""
    return (
        f"mount_point {prefix} has no slash at its end: the topic a is {prefix}a, and a subscription that begins with"
        f" + or # brings nothing. Cure, unless that is meant: `{prefix}/`."
    )
