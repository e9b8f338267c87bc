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


class ReadOnly(Access):
    """May subscribe to everything and publish nothing."""

    def may_write(self, topic: bytes) -> bool:
        return False
