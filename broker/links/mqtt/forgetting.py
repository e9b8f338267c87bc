"""A CONNECT that ends a session which is on disk: where that was promised, CONNACK waits until it is gone there.

Without that, a crash before the next save would bring back what the client was told is gone [MQTT-3.2.2-2].

Invariant: CONNECTs of one client id that wait here go on in the order in which they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core.limits import FORGETTING_MAX, FORGETTING_OF_CLIENT_MAX
from broker.links.mqtt.accepting import accept, take_over
from broker.links.mqtt.refusing import refuse, refuse_outdated
from protocol.mqtt.connection import AUTHENTICATING
from protocol.mqtt.packets import Connect, ConnectReturnCode

if TYPE_CHECKING:
    from broker.core.saving import Saving
    from broker.links.mqtt.link import MqttLink


def waits_for_disk(link: MqttLink, packet: Connect, client_id: bytes) -> bool:
    """End the session that this client does not go on with; True if it is not to be let in now.

    It is later, when that is saved; or it is refused, where too many wait for that.
    """
    engine = link.engine
    saving = engine.saving
    if saving is None:
        return False
    session = engine.sessions.get(client_id)
    waiting = saving.forgetting.get(client_id, 0)
    ended = (
        session is not None
        and not session.clean
        and (packet.clean_session or session.mount_point != link.door.mount_point)
    )
    if not ended and not waiting:
        return False
    if waiting >= FORGETTING_OF_CLIENT_MAX or saving.forgetting_count >= FORGETTING_MAX:
        refuse(link, ConnectReturnCode.SERVER_UNAVAILABLE, "too many wait for the disk")
        return True
    if ended:
        assert session is not None
        take_over(link, client_id, packet.clean_session)
        engine.end_session(session)  # [MQTT-3.1.2-6]
    promise = saving.promise_saved()
    if promise is None:
        return False
    promise.on_kept = Forgetting(link, packet, client_id, saving).go_on
    return True


class Forgetting:
    """A client that is let in when the session before is gone from the disk, too."""

    def __init__(self, link: MqttLink, packet: Connect, client_id: bytes, saving: Saving) -> None:
        self._link = link
        self._packet = packet
        self._client_id = client_id
        self._saving = saving
        saving.forgetting[client_id] = saving.forgetting.get(client_id, 0) + 1
        saving.forgetting_count += 1

    def go_on(self) -> None:
        """It is."""
        waiting = self._saving.forgetting
        self._saving.forgetting_count -= 1
        waiting[self._client_id] -= 1
        if not waiting[self._client_id]:
            del waiting[self._client_id]
        link = self._link
        if link.state != AUTHENTICATING:
            return  # it left
        verdict = link.verdict
        assert verdict is not None
        if link.door.authenticator.is_still_valid(verdict):
            accept(link, self._packet, self._client_id, verdict.user_name)
        else:
            refuse_outdated(link)
        if link.departed:
            link.close("closed its connection.")
