"""Drawn play against a pump that waits for publishers: many receivers, several publishers, people who come and go.

The clients are in a thread of their own: the pump waits for somebody only while nothing else in its loop wants to run.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

import pytest
import trio

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.links.gathering import MANY
from broker.links.listening.door import Door
from broker.links.pump import Pump
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Disconnect, Pingreq, Puback, Publish, Subscribe

RECEIVERS = MANY + 8
STEPS = 150
TO_ALL, TO_FEW = b"all", b"few"
CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 0x20, 0x30, 0x40, 0x90, 0xD0


class Player:
    """A client over a blocking socket, whose packets are all shorter than 128 bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(60)
        self.messages: list[bytes] = []
        self.unacknowledged: list[int] = []
        self.answers: list[int] = []
        self._received = b""

    def send(self, *packets: Connect | Disconnect | Pingreq | Puback | Publish | Subscribe) -> None:
        self.sock.sendall(b"".join(encode(packet) for packet in packets))

    def receive(self) -> None:
        """At least one more packet."""
        while True:
            more = self.sock.recv(4096)
            assert more, "closed"
            self._received += more
            if self._take():
                return

    def receive_what_is_here(self) -> None:
        self.sock.setblocking(False)
        try:
            self._received += self.sock.recv(4096)
        except BlockingIOError:
            pass
        finally:
            self.sock.settimeout(60)
        self._take()

    def wait_for(self, kind: int) -> None:
        """An answer of this kind, which nobody has waited for yet."""
        while kind not in self.answers:
            self.receive()
        self.answers.remove(kind)

    def acknowledge(self, count: int | None = None) -> None:
        """The first so many; all unless it is given."""
        self.send(*(Puback(packet_id) for packet_id in self.unacknowledged[:count]))
        del self.unacknowledged[:count]

    def _take(self) -> bool:
        """The packets that are complete; whether there were any."""
        taken = False
        while len(self._received) > 1 and len(self._received) >= 2 + self._received[1]:
            kind, body = self._received[0] & 0xF0, self._received[2 : 2 + self._received[1]]
            self._received = self._received[2 + len(body) :]
            taken = True
            if kind == PUBLISH:
                topic_end = 2 + int.from_bytes(body[:2])
                self.unacknowledged.append(int.from_bytes(body[topic_end : topic_end + 2]))
                self.messages.append(body[topic_end + 2 :])
            else:
                self.answers.append(kind)
        return taken


class Play:
    """What the thread does; `open` gives the client's end of a connection that the pump has."""

    def __init__(self, seed: int, open: Callable[[], socket.socket]) -> None:
        self.draw = random.Random(seed)
        self.open = open
        self.names = 0
        self.published: list[bytes] = []
        self.gone: list[Player] = []
        self.staying = [self.receiver() for _ in range(RECEIVERS)]
        self.passing = [self.receiver() for _ in range(4)]
        self.publishers = [self.publisher() for _ in range(1 + seed % 3)]

    def enter(self, client_id: bytes) -> Player:
        player = Player(self.open())
        player.send(Connect(client_id, True, 600))
        player.wait_for(CONNACK)
        return player

    def receiver(self) -> Player:
        self.names += 1
        player = self.enter(b"r%d" % self.names)
        player.send(Subscribe(1, ((TO_ALL, 1),)))
        player.wait_for(SUBACK)
        return player

    def publisher(self) -> tuple[bytes, Player]:
        self.names += 1
        client_id = b"p%d" % self.names
        return client_id, self.enter(client_id)

    def run(self) -> None:
        self.staying[0].send(Subscribe(2, ((TO_FEW, 1),)))
        self.staying[0].wait_for(SUBACK)
        acts = [self.in_step, self.in_step, self.publish, self.read, self.read, self.to_few, self.ping]
        acts += [self.last_words, self.in_step_to_the_end, self.come_and_go, self.take_over, self.cut]
        for _ in range(STEPS):
            self.draw.choice(acts)()
        for player in self.staying:
            while len(player.messages) < len(self.published) + self.few_of(player):
                player.acknowledge()
                player.receive()
            ours = [message for message in player.messages if not message.startswith(TO_FEW)]
            assert sorted(ours) == sorted(self.published)
            for name in {message.split()[0] for message in ours}:
                mine = [message for message in ours if message.split()[0] == name]
                assert mine == [message for message in self.published if message.split()[0] == name]
        for player in self.staying + [player for _, player in self.publishers]:
            player.send(Pingreq())
            player.wait_for(PINGRESP)

    def few_of(self, player: Player) -> int:
        return self.few if player is self.staying[0] else 0

    few = 0

    def words(self, name: bytes, count: int) -> list[Publish]:
        """So many messages to all."""
        messages = [b"%s %d" % (name, len(self.published) + number) for number in range(count)]
        self.published += messages
        return [
            Publish(TO_ALL, payload, 1, False, False, number + 1) for number, payload in enumerate(messages)
        ]

    def publish(self) -> None:
        name, player = self.draw.choice(self.publishers)
        player.receive_what_is_here()
        player.send(*self.words(name, self.draw.randint(1, 5)))

    def in_step(self) -> None:
        """Two groups under way, as publishers of a small window have."""
        name, player = self.publishers[0]
        player.receive_what_is_here()
        player.send(*self.words(name, 2))
        for _ in range(self.draw.randint(1, 6)):
            player.send(*self.words(name, 2))
            for reader in self.staying:
                reader.acknowledge()  # at first, as the messages may be more than a window
                if len(reader.messages) < len(self.published) - 2:
                    reader.receive()

    def read(self) -> None:
        readers = self.staying + self.passing
        for reader in self.draw.sample(readers, self.draw.choice([1, 5, len(readers)])):
            reader.receive_what_is_here()
            reader.acknowledge(self.draw.choice([0, 1, None]))

    def to_few(self) -> None:
        _, player = self.draw.choice(self.publishers)
        player.send(Publish(TO_FEW, b"few", 1, False, False, 99))
        self.few += 1

    def ping(self) -> None:
        player = self.draw.choice([*self.staying, self.draw.choice(self.publishers)[1]])
        player.send(Pingreq())
        player.wait_for(PINGRESP)

    def last_words(self) -> None:
        """Said, and nothing more will be; whether it is told or not."""
        place = self.draw.randrange(len(self.publishers))
        self.leave(place)

    def in_step_to_the_end(self) -> None:
        self.in_step()
        self.leave(0)

    def leave(self, place: int) -> None:
        name, player = self.publishers[place]
        farewell = [Disconnect()] if self.draw.random() < 0.5 else []
        player.send(*self.words(name, self.draw.randint(1, 3)), *farewell)
        player.sock.shutdown(socket.SHUT_WR)
        self.gone.append(player)
        self.publishers[place] = self.publisher()

    def come_and_go(self) -> None:
        place = self.draw.randrange(len(self.passing))
        self.passing[place].sock.close()
        self.passing[place] = self.receiver()

    def take_over(self) -> None:
        """Another connection under the same client id, while the older one's messages may be unread."""
        place = self.draw.randrange(len(self.publishers))
        name, player = self.publishers[place]
        player.send(*self.words(name, self.draw.randint(0, 2)))
        self.gone.append(player)
        self.publishers[place] = name, self.enter(name)

    def cut(self) -> None:
        """Half of a message, and the rest later."""
        name, player = self.draw.choice(self.publishers)
        data = b"".join(encode(packet) for packet in self.words(name, 2))
        middle = self.draw.randrange(1, len(data))
        player.sock.sendall(data[:middle])
        self.draw.choice([self.read, self.ping_reader])()
        player.sock.sendall(data[middle:])

    def ping_reader(self) -> None:
        reader = self.draw.choice(self.staying)
        reader.send(Pingreq())
        reader.wait_for(PINGRESP)


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_stays_gets_all_of_everybody_in_order(seed: int) -> None:
    pump = Pump(Engine(), lambda link: None, lambda link: None)
    door = Door(
        Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
    )

    def add() -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        pump.add(theirs, door, "peer")
        return ours

    def play() -> Play:
        played = Play(seed, lambda: trio.from_thread.run_sync(add))
        played.run()
        return played

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        played = await trio.to_thread.run_sync(play)
        nursery.cancel_scope.cancel()
    for player in played.staying + played.passing + played.gone + [one for _, one in played.publishers]:
        player.sock.close()
