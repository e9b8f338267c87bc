"""What the configuration says about the broker as a whole, as the core needs it."""

from __future__ import annotations


class Policy:
    """What the configuration says about the broker as a whole.

    Args:
        retain_available: store retained messages at all.
        check_retain_source: withhold a retained message whose publisher may not write its topic any more.
        allow_duplicate_messages: one copy per matching filter rather than one per client.
        persistent_client_expiration_s: forget a persistent session so long after it left; 0 never.
        message_size_limit: largest payload in bytes that is passed on; 0 is no limit.
        retained_messages_max, retained_bytes_max: how much is retained; 0 is no limit.
        subscriptions_max: of one client; 0 is no limit.
    """

    def __init__(
        self,
        retain_available: bool = True,
        check_retain_source: bool = True,
        allow_duplicate_messages: bool = False,
        persistent_client_expiration_s: float = 0.0,
        message_size_limit: int = 0,
        retained_messages_max: int = 0,
        retained_bytes_max: int = 0,
        subscriptions_max: int = 0,
    ) -> None:
        self.retain_available = retain_available
        self.check_retain_source = check_retain_source
        self.allow_duplicate_messages = allow_duplicate_messages
        self.persistent_client_expiration_s = persistent_client_expiration_s
        self.message_size_limit = message_size_limit
        self.retained_messages_max = retained_messages_max
        self.retained_bytes_max = retained_bytes_max
        self.subscriptions_max = subscriptions_max
