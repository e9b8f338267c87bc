"""A QoS 1 subscriber with a session that outlives its connections; writes down what it gets, then acknowledges it."""

from __future__ import annotations

from collections.abc import Callable

import trio
from torture.recorder import LogOutlet

from protocol.mqtt.codec import decode, encode
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Packet, Puback, Publish, Suback, Subscribe

CLIENT_ID = b"torture"
FILTERS = ((b"torture/#", 1), (b"$SYS/feed/torture/gap", 1))


async def subscribe_for_ever(port: int, log: str, how_it_ended: Callable[[], str]) -> None:
    """Connect again whenever the connection ends.

    Args:
        port: the broker's, on 127.0.0.1.
        log: file to append to; each connection begins with a line `# run HOW`.
        how_it_ended: how the broker's last process ended.
    """
    outlet = LogOutlet(log)
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                outlet.write(f"# run {how_it_ended()}\n")
                await _serve(stream, outlet)
        except OSError:
            pass
        except trio.BrokenResourceError:
            pass
        await trio.sleep(0.05)


async def _serve(stream: trio.SocketStream, outlet: LogOutlet) -> None:
    await stream.send_all(encode(Connect(CLIENT_ID, False, 30)))
    received = b""
    while data := await stream.receive_some(65536):
        received += data
        position = 0
        answers: list[bytes] = []
        while True:
            body, end = frame_at(received, position, 0)
            if not end:
                break
            answer = _take(decode(received[position], received[body:end]), outlet)
            if answer is not None:
                answers.append(encode(answer))
            position = end
        received = received[position:]
        outlet.flush()
        if answers:
            await stream.send_all(b"".join(answers))


def _take(packet: Packet, outlet: LogOutlet) -> Packet | None:
    match packet:
        case Connack():
            return Subscribe(1, FILTERS)
        case Suback():
            outlet.write("= live\n")
        case Publish():
            outlet.publish(packet.topic, packet.payload, packet.qos, packet.retain)
            return Puback(packet.packet_id) if packet.qos else None
    return None
