"""What there is to know about a dialect beside its machine: all that the rest of the broker asks it."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from attrs import frozen

from broker.config.dialects.limits import DialectLimits
from broker.config.tokens import HttpHookConfig, JwtConfig, TokenConfig
from protocol.dialects.base import NOTHING, Clock, Commands, Dialect, Identity, Refusal

Login: TypeAlias = JwtConfig | HttpHookConfig | TokenConfig
"""Who says whose a token is."""


@frozen
class Asked:
    """What the target of a handshake asks of a dialect.

    `token` must be verified before the handshake is answered; "" where the machine asks for one later, or never.
    """

    token: str = ""
    channel: str | None = None


class NotAdmitted(Exception):
    """A client may not connect; the text says why, in the words of the dialect."""


class DialectKind:
    """One dialect, as `[websocket.NAME]` sets it up.  Subclasses are frozen, their attributes the table's keys."""

    name: ClassVar[str]
    title: ClassVar[str]
    """For messages."""
    machine: ClassVar[type[Dialect]]
    has_channels: ClassVar[bool] = True
    """Routes publish to channels of its own; otherwise its clients read what MQTT clients read."""
    default_body: ClassVar[str] = "envelope"
    """The body of its routes that don't say one."""
    relays_envelopes: ClassVar[bool] = False
    """What comes in an envelope goes out as it came, where a route doesn't say otherwise."""

    path: str
    limits: DialectLimits | None = None

    @property
    def login(self) -> Login | None:
        """Who answers its logins; None where nobody can log in."""
        return None

    @property
    def mesh_prefix(self) -> str:
        """What stands before a channel's name in `POST /v1/mesh/publish`; "" where nothing is published there."""
        return f"{self.name}:"

    @property
    def message_bytes_max(self) -> int:
        """The largest message that a client may send; 0 for that of [websocket]."""
        return 0 if self.limits is None else self.limits.message_bytes_max

    @property
    def account_connections_max(self) -> int:
        """How many connections one account may have; 0 for any number."""
        return 0

    def asked(self, target: str) -> Asked | None:
        """What a handshake with this target asks; None if the target is not this dialect's."""
        return Asked() if target.partition("?")[0] == self.path else None

    def path_fault(self) -> str:
        """What keeps handshakes from ever asking for this path; "" if nothing does."""
        if not self.path.startswith("/"):
            return f'it begins with a slash, as "/{self.path}"'
        return "it is the whole path, without ? { and }" if set(self.path) & set("?{}") else ""

    def open(self, asked: Asked, found: Identity | Refusal | None, clock: Clock, now: float) -> Dialect:
        """The machine for a connection.

        Args:
            found: whose token was asked about; None if there was none.
            now: monotonic seconds at which it was accepted.

        Raises:
            NotAdmitted
        """
        raise NotImplementedError

    def renew(self, dialect: Dialect, now: float) -> Commands:
        """This is set up as here from now on: the rights of who is connected already, and what ends with them."""
        return NOTHING
