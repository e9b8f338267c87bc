"""A listener's door: who may come in, under which id, and what applies to them inside.

`Door.judge` answers with a value; what becomes of the connection, the link decides by it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping

from broker.config.model import Limits, Listener, Tls
from broker.core.access import Access
from broker.gateway.authentication import NAMELESS, Authenticator, Rules, Verdict
from broker.links.listening.judgement import Accepted, Judgement, Refused, Slow, TurnedAway
from broker.links.listening.tls import TlsError, has_slow_key, server_context
from protocol.mqtt.packets import Connect, ConnectReturnCode
from protocol.mqtt.v5.property_table import AUTHENTICATION_METHOD
from protocol.mqtt.v5.reasons import ReasonCode

logger = logging.getLogger("broker.links")


class Occupancy:
    """Connections that are open on all listeners together."""

    def __init__(self) -> None:
        self.open_count = 0


class Door:
    """What the links of one listener share.

    Args:
        listener: the configuration of the listener.
        limits: the broker-wide ones.
        connection_messages: log connects and disconnects.
        rules: what the password and ACL files of the listener say; read here if not given.
        occupancy: shared with the other listeners, for `global_max_connections`.

    Raises:
        broker.gateway.authentication.RulesError: a file can't be read, or is wrong.
        broker.links.listening.tls.TlsError: the certificate files can't be used.
    """

    def __init__(
        self,
        listener: Listener,
        limits: Limits,
        connection_messages: bool = True,
        rules: Rules | None = None,
        occupancy: Occupancy | None = None,
    ) -> None:
        self.port = listener.port
        self._open_count = 0
        self._occupancy = Occupancy() if occupancy is None else occupancy
        self.rules = Rules(listener.security) if rules is None else rules
        self.tls_context = None if listener.tls is None else server_context(listener.tls)
        self.slow_key = listener.tls is not None and has_slow_key(listener.tls)
        """Handshakes are computed in a thread."""
        self.configure(listener, limits, connection_messages)

    def configure(self, listener: Listener, limits: Limits, connection_messages: bool) -> None:
        """Take over new settings; connections that are open keep the ones they were admitted with."""
        self.listener = listener
        # What each CONNECT is asked for, beside it: interpreted objects say it at a higher price.
        self._connections_max = listener.max_connections
        self._versions = frozenset(listener.accept_protocol_versions)
        self._prefix = listener.security.clientid_prefixes.encode()
        self._is_named_by_user = listener.use_username_as_clientid
        self._limits_keep_alive = listener.max_keepalive_s > 0
        self.max_qos = listener.max_qos
        self.mount_point = listener.mount_point.encode()
        self.max_packet_size = limits.max_packet_size_bytes
        self.outbox_bytes_max = limits.outbox_bytes_max
        self.outbox_messages_max = limits.outbox_messages_max
        self.clients_max = limits.global_max_clients
        self.connections_max = limits.global_max_connections
        self.message_size_limit = limits.message_size_limit_bytes
        self.connection_messages = connection_messages
        tls = listener.tls
        self.authenticator = Authenticator(
            self.rules,
            allow_anonymous=listener.security.allow_anonymous,
            certificate_wanted=(
                listener.proxy_v2_use_identity_as_username
                or (tls is not None and (tls.use_identity_as_username or tls.use_subject_as_username))
            ),
        )

    def renew_tls(self, tls: Tls) -> bool:
        """Read the certificate files again, for connections to come; files that can't be used change nothing.

        Returns:
            Whether they were taken over.  If not, the log says why.
        """
        try:
            self.tls_context = server_context(tls)
            self.slow_key = has_slow_key(tls)
        except TlsError as error:
            logger.error("%s", error)
            logger.error("The certificates read before stay in use on port %d.", self.port)
            return False
        return True

    @property
    def open_count(self) -> int:
        """Connections through this door that are open."""
        return self._open_count

    def enter(self) -> None:
        """A connection is open; `leave` is called when it is so no more."""
        self._open_count += 1
        self._occupancy.open_count += 1

    def leave(self) -> None:
        """A connection that entered has ended."""
        self._open_count -= 1
        self._occupancy.open_count -= 1

    def is_full(self) -> bool:
        """Whether as many connections are open as may be; the next is closed without a word, as by Mosquitto."""
        if 0 < self._connections_max <= self._open_count:
            return True
        return 0 < self.connections_max <= self._occupancy.open_count

    def judge(
        self,
        packet: Connect,
        certificate_identity: bytes | None,
        sessions: Mapping[bytes, object],
        verdict: Verdict | None = None,
    ) -> Judgement:
        """Decide about a CONNECT (MQTT 3.1.1 §3.1.4).

        Args:
            certificate_identity: what the listener takes as user name from the client's verified certificate.
            sessions: those that there are, by client id.
            verdict: what `verdict_for` said, if it was asked because the judgement was `Slow`.
        """
        refusal = self._refusal(packet)
        if refusal is not None:
            return refusal
        if verdict is None:
            if packet.user_name is not None and self.authenticator.needs_thread(packet.user_name):
                return Slow()
            verdict = self.authenticator.check(packet.user_name, packet.password, certificate_identity)
        if not verdict.accepted:
            return Refused(verdict.return_code, verdict.reason)
        client_id: bytes | None = packet.client_id
        if not client_id or self._is_named_by_user:
            client_id = self._client_id_for(verdict)
        if client_id is None:
            return Refused(ConnectReturnCode.NOT_AUTHORIZED, "no user name to use as client id")
        if 0 < self.clients_max <= len(sessions) and client_id not in sessions:
            return TurnedAway("global_max_clients exceeded")
        return Accepted(client_id, verdict)

    def claimed_id(self, packet: Connect, certificate_identity: bytes | None) -> bytes:
        """The client id that a CONNECT is about; b"" for one that is still to be made up."""
        if self._is_named_by_user:
            wants_certificate = self.authenticator.certificate_wanted
            return (certificate_identity if wants_certificate else packet.user_name) or b""
        return packet.client_id

    def verdict_for(self, packet: Connect, certificate_identity: bytes | None) -> Verdict:
        """Check name and password or certificate.  Safe in a thread."""
        return self.authenticator.check(packet.user_name, packet.password, certificate_identity)

    def access_for(
        self, client_id: bytes, user_name: bytes | None, verdict: Verdict | None = None
    ) -> Access | None:
        """What this identity may do, by its token if that is what it came with; None where nothing is forbidden."""
        if verdict is not None and verdict.by_token:
            return verdict.access
        return self.rules.access_for(user_name, client_id)

    def _client_id_for(self, verdict: Verdict) -> bytes | None:
        """An id that the client did not give itself; None where it would be the name that it lacks."""
        if self._is_named_by_user:
            return None if verdict.by_token and verdict.user_name == NAMELESS else verdict.user_name
        return f"{self.listener.security.auto_id_prefix}{str(uuid.uuid4()).upper()}".encode()

    def _refusal(self, packet: Connect) -> Refused | None:
        level = packet.protocol_level
        if level not in self._versions:
            return Refused(ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION, "unacceptable protocol version")
        if level == 5 and AUTHENTICATION_METHOD in packet.properties.texts:
            # As mosquitto without a plugin.
            return Refused(
                ReasonCode.BAD_AUTHENTICATION_METHOD, "bad authentication method"
            )  # [MQTT-4.12.0-1]
        if not packet.client_id and not self._may_be_nameless(packet):
            return Refused(ConnectReturnCode.IDENTIFIER_REJECTED, "identifier rejected")  # [MQTT-3.1.3-8]
        if level < 5 and self._limits_keep_alive and not self.listener.allows_keep_alive(packet.keep_alive_s):
            return Refused(ConnectReturnCode.IDENTIFIER_REJECTED, "keep-alive longer than max_keepalive")
        if self._prefix and not self._is_prefixed(packet.client_id):
            return Refused(
                ConnectReturnCode.NOT_AUTHORIZED,
                "client id without the prefix that clientid_prefixes asks for",
            )
        will = packet.will
        if will is not None and self.message_size_limit and len(will.payload) > self.message_size_limit:
            code = (
                ReasonCode.PACKET_TOO_LARGE
                if packet.protocol_level == 5
                else ConnectReturnCode.NOT_AUTHORIZED
            )
            return Refused(code, "will longer than message_size_limit")
        return None

    def _is_prefixed(self, client_id: bytes) -> bool:
        """As mosquitto: made-up ids are asked, too."""
        return (client_id or self.listener.security.auto_id_prefix.encode()).startswith(self._prefix)

    def _may_be_nameless(self, packet: Connect) -> bool:
        security = self.listener.security
        if self.listener.use_username_as_clientid and packet.user_name:
            return True
        if packet.protocol_level == 5:
            return security.allow_zero_length_clientid
        return packet.clean_session and packet.protocol_level >= 4 and security.allow_zero_length_clientid
