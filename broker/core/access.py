"""What one connected identity may do, as the core asks it.  The rules themselves live in `broker.core.acl`."""

from __future__ import annotations

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Access:
    """Base: everything is allowed.  Answers must stay true until `SubscriptionTrie.forget` is called."""

    def may_read(self, topic: bytes) -> bool:
        """Whether messages of this topic may be delivered; asked once per topic and receiver, then cached."""
        return True

    def may_write(self, topic: bytes) -> bool:
        """Whether this identity may publish to the topic."""
        return True

    def decides_as(self, other: Access) -> bool:
        """Whether both are known to give the same answer to everything; False if in doubt."""
        return self is other


class ReadOnly(Access):
    """May subscribe to everything and publish nothing."""

    def may_write(self, topic: bytes) -> bool:
        return False

    def decides_as(self, other: Access) -> bool:
        return isinstance(other, ReadOnly)


def same_rights(one: Access | None, other: Access | None) -> bool:
    """Whether what was decided for the one holds for the other; None is whoever nothing is forbidden."""
    if one is None or other is None:
        return one is other
    return one.decides_as(other)
