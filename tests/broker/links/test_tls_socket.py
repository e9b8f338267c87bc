"""Encrypted sockets that share OpenSSL's buffers: bytes in any pieces, peers that don't read, handshakes in between."""

from __future__ import annotations

import _ssl
import ctypes
import shutil
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from support.certificates import Authority
from support.interpreted import interpreted_only

from broker.config.model import Tls
from broker.core.counters import Counters
from broker.core.outbox import Outbox, Round
from broker.core.shell import Shell
from broker.links.listening.tls import has_slow_key, server_context
from broker.links.tls_socket import ENCRYPT_BYTES, Buffers, Documented, TlsSocket, records_of

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")

SSL_KEY_UPDATE_REQUESTED = 1


class Client:
    """The other end, sans-IO but for its plain socket, so that its bytes can be cut anywhere."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def step(self) -> bytes:
        """Go on with the handshake; what is to be sent."""
        with suppress(BlockingIOError):
            self._in.write(self.sock.recv(1 << 16))
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def encrypted(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._out.read()

    def key_update(self) -> bytes:
        """The record that has the other end take new keys and say so (RFC 8446 §4.6.3); Python has no call for it."""
        library = getattr(_ssl, "__file__", None)
        if library is None:
            pytest.skip("this Python has OpenSSL within itself, where it can't be called")
        openssl = ctypes.CDLL(library)
        part = self.tls._sslobj  # type: ignore[attr-defined]
        # Its own members begin with the socket and OpenSSL's connection.
        connection = ctypes.c_void_p.from_address(
            id(part) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        )
        assert openssl.SSL_key_update(connection, SSL_KEY_UPDATE_REQUESTED) == 1
        assert openssl.SSL_do_handshake(connection) == 1
        return self._out.read()

    def goodbye(self) -> bytes:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._out.read()

    def read(self) -> bytes:
        with suppress(BlockingIOError):
            self._in.write(self.sock.recv(1 << 16))
        found = b""
        with suppress(ssl.SSLWantReadError):
            while piece := self.tls.read(1 << 16):
                found += piece
        return found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("server", "/CN=localhost", host=True)
    return made


class Pairs:
    def __init__(self, authority: Authority) -> None:
        folder = authority.folder
        self._server = server_context(Tls(folder / "server.crt", folder / "server.key"))
        self.client_context = ssl.create_default_context(cafile=authority.ca)
        self._buffers = Buffers()
        self._sockets: list[socket.socket] = []

    def made(self) -> tuple[TlsSocket, Client]:
        """Both ends, before their handshake."""
        ours, theirs = socket.socketpair()
        self._sockets += [ours, theirs]
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        return TlsSocket(ours, self._server, self._buffers), Client(theirs, self.client_context)

    def whole(self) -> ssl.SSLObject:
        """A server's end as Python documents it."""
        buffers = self._buffers
        return self._server.wrap_bio(buffers.incoming, buffers.outgoing, server_side=True)

    def opened(self) -> tuple[TlsSocket, Client]:
        server, client = self.made()
        while True:
            client.sock.send(client.step())
            if server.shake_hands(server.receive_handshake()):
                return server, client

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def pairs(authority: Authority) -> Iterator[Pairs]:
    made = Pairs(authority)
    yield made
    made.close()


def received(server: TlsSocket) -> bytes | None:
    try:
        return server.recv(1 << 16)
    except BlockingIOError:
        return None


@pytest.mark.parametrize("seed", range(20))
def test_bytes_in_any_pieces_over_many_connections_arrive_as_they_were_sent(pairs: Pairs, seed: int) -> None:
    random = Random(seed)
    ends = [pairs.opened() for _ in range(4)]
    sent = [b""] * 4
    came = [b""] * 4
    wire = [b""] * 4
    for _ in range(60):
        at = random.randrange(4)
        server, client = ends[at]
        if random.random() < 0.6:
            data = random.randbytes(random.choice((1, 60, 3000, 16_384, 40_000)))
            sent[at] += data
            wire[at] += client.encrypted(data)
        cut = random.choice((1, 3, 5, 6, 100, 17_000, 60_000))
        with suppress(BlockingIOError):
            wire[at] = wire[at][client.sock.send(wire[at][:cut]) :]
        came[at] += received(server) or b""
    for at, (server, client) in enumerate(ends):
        while wire[at]:
            with suppress(BlockingIOError):
                wire[at] = wire[at][client.sock.send(wire[at]) :]
            came[at] += received(server) or b""
        while more := received(server):
            came[at] += more
    assert came == sent


@pytest.mark.parametrize("seed", range(20))
def test_a_peer_that_reads_slowly_gets_every_byte_once(pairs: Pairs, seed: int) -> None:
    random = Random(seed)
    server, client = pairs.opened()
    other, other_client = pairs.opened()
    owed = whole = random.randbytes(400_000)
    got = b""
    while len(got) < len(whole):
        offered = owed[: random.choice((len(owed), 70_000, 300_000))] if len(owed) == len(whole) else owed
        with suppress(BlockingIOError):
            owed = owed[server.send(offered) :]
        assert other.send(b"meanwhile") == 9
        assert other_client.read().endswith(b"meanwhile")
        got += client.read()
    assert got == whole
    assert owed == b""


@pytest.mark.parametrize("seed", range(10))
def test_handshakes_in_any_order_and_pieces_share_the_buffers(pairs: Pairs, seed: int) -> None:
    random = Random(seed)
    open_server, open_client = pairs.opened()
    under_way = [(*pairs.made(), [b""]) for _ in range(12)]
    for server, client, wire in random.sample(under_way, 3):
        client.sock.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            server.shake_hands(server.receive_handshake())
        server.close()
        under_way = [one for one in under_way if one[0] is not server]
        assert wire == [b""]
    done = 0
    while under_way:
        one = random.choice(under_way)
        server, client, wire = one
        wire[0] += client.step()
        if not wire[0]:
            continue
        cut = random.choice((1, 4, 50, len(wire[0])))
        wire[0] = wire[0][client.sock.send(wire[0][:cut]) :]
        if server.shake_hands(server.receive_handshake()):
            under_way.remove(one)
            done += 1
            client.sock.send(client.encrypted(b"first"))
            assert (server.take_rest() or received(server)) == b"first"
        open_client.sock.send(open_client.encrypted(b"between"))
        assert received(open_server) == b"between"
    assert done == 9


def test_what_comes_with_the_end_of_the_handshake_is_not_lost(pairs: Pairs) -> None:
    server, client = pairs.made()
    client.sock.send(client.step())
    assert not server.shake_hands(server.receive_handshake())
    client.sock.send(client.step() + client.encrypted(b"CONNECT") + client.encrypted(b"more")[:10])
    assert server.shake_hands(server.receive_handshake())
    assert server.take_rest() == b"CONNECT"


@pytest.mark.parametrize("may", [True, False])
def test_what_comes_while_the_end_of_the_handshake_is_computed_is_taken_with_it_if_it_may(
    pairs: Pairs, may: bool
) -> None:
    server, client = pairs.made()
    client.sock.send(client.step())
    assert not server.shake_hands(server.receive_handshake())
    client.sock.send(client.step())
    end = server.receive_handshake()
    client.sock.send(client.encrypted(b"CONNECT"))
    assert server.shake_hands(end, lambda sock: may)
    assert server.take_rest() == (b"CONNECT" if may else b"")
    assert may or server.recv(100) == b"CONNECT"
    assert server.send(b"CONNACK") == 7
    assert client.read() == b"CONNACK"
    assert client.tls.session is not None
    assert client.tls.session.has_ticket


def shaken_with(pairs: Pairs, data: bytes) -> tuple[TlsSocket, Client]:
    """A connection whose handshake ends in one piece with `data`, which the server has taken."""
    server, client = pairs.made()
    client.sock.send(client.step())
    assert not server.shake_hands(server.receive_handshake())
    client.sock.send(client.step() + client.encrypted(data))
    assert server.shake_hands(server.receive_handshake())
    assert server.take_rest() == data
    return server, client


def test_a_ticket_goes_in_one_piece_with_the_answer_to_what_came_with_the_handshake(pairs: Pairs) -> None:
    server, client = shaken_with(pairs, b"CONNECT")
    with pytest.raises(BlockingIOError):
        client.sock.recv(1)
    assert server.send(b"CONNACK") == 7
    assert client.read() == b"CONNACK"
    assert client.tls.session is not None
    assert client.tls.session.has_ticket
    assert server.send(b"more") == 4
    assert client.read() == b"more"


def test_a_ticket_that_went_with_nothing_goes_before_the_goodbye(pairs: Pairs) -> None:
    server, client = shaken_with(pairs, b"CONNECT")
    server.close()
    assert client.read() == b""
    client.tls.unwrap()  # and would want to read if the server had not said goodbye
    assert client.tls.session is not None
    assert client.tls.session.has_ticket


def test_a_goodbye_is_answered_and_is_the_end(pairs: Pairs) -> None:
    server, client = pairs.opened()
    client.sock.send(client.encrypted(b"last") + client.goodbye())
    assert received(server) == b"last"
    assert received(server) == b""
    server.close()
    with pytest.raises(ssl.SSLZeroReturnError):  # the server has said goodbye, too
        client.read()


class Talkative:
    """OpenSSL's part where it has something to say while it reads, such as that it does not negotiate again."""

    def __init__(self, records: Any, outgoing: ssl.MemoryBIO) -> None:
        self.read, self.write = self._read, records.write
        self._records, self._outgoing = records, outgoing

    def _read(self, size: int) -> bytes:
        self._outgoing.write(b"its own")
        found: bytes = self._records.read(size)
        return found


def test_what_openssl_says_while_it_reads_goes_to_that_peer_only(pairs: Pairs) -> None:
    (one, first), (other, second) = pairs.opened(), pairs.opened()
    one._records_of = Talkative(one._records_of, one._buffers.outgoing)  # type: ignore[assignment]
    first.read()  # tickets
    first.sock.send(first.encrypted(b"no answer wanted"))
    assert received(one) == b"no answer wanted"
    assert first.sock.recv(100) == b"its own"
    assert other.send(b"to the other") == len(b"to the other")
    assert second.read() == b"to the other"


def fill(server: TlsSocket, data: bytes) -> bytes:
    """Send until the kernel takes no more; what has not left."""
    with suppress(BlockingIOError):
        while data:
            data = data[server.send(data) :]
    return data


def test_a_peer_that_asks_for_new_keys_and_reads_nothing_is_not_read_from_for_ever(pairs: Pairs) -> None:
    server, client = pairs.opened()
    assert fill(server, bytes(1_000_000))
    asked = 0
    with suppress(ConnectionAbortedError):
        while asked < 10_000:
            asked += 1
            client.sock.send(client.key_update())
            assert received(server) is None
    assert 1_000 < asked < 10_000
    assert len(server._records) < 3 * ENCRYPT_BYTES


def test_new_keys_amid_what_a_peer_has_not_read_yet_leave_every_byte_there_once(pairs: Pairs) -> None:
    server, client = pairs.opened()
    whole = bytes(range(256)) * 4_000
    owed = fill(server, whole)
    got = client.read()
    while owed:
        client.sock.send(client.key_update())
        assert received(server) is None
        owed = fill(server, owed)
        got += client.read()
    assert got + client.read() == whole


class Teller(Shell):
    """Remembers what it was told of its outbox."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def blocked(self) -> None:
        self.events.append("blocked")

    def broken(self) -> None:
        self.events.append("broken")


def test_an_outbox_sends_by_an_encrypted_socket_as_by_any_other(pairs: Pairs) -> None:
    server, client = pairs.opened()
    round = Round(Counters())
    teller = Teller()
    events = teller.events
    outbox = Outbox(round, 1000, server.send, teller)
    outbox.push(b"one")
    outbox.push(b"two")
    round.flush()
    assert client.read() == b"onetwo"
    whole = bytes(range(256)) * 40_000
    outbox.push(whole)
    round.flush()
    assert events == ["blocked"]
    got = b""
    while len(got) < len(whole):
        got += client.read()
        outbox.writable()
    assert got == whole
    assert outbox.pending_bytes == 0
    client.sock.close()
    outbox.push(b"to nobody")
    round.flush()
    assert (events[-1], outbox.closed) == ("broken", True)


def test_what_python_documents_is_used_where_openssls_part_is_not_found(pairs: Pairs) -> None:
    ours, client = pairs.made()
    ours._records_of = Documented(pairs.whole())
    while True:
        client.sock.send(client.step())
        if ours.shake_hands(ours.receive_handshake()):
            break
    assert ours.getpeercert(True) is None
    client.sock.send(client.encrypted(b"text"))
    assert received(ours) == b"text"
    assert ours.send(b"answer") == 6
    assert client.read() == b"answer"
    ours.close()
    assert client.read() == b""
    client.tls.unwrap()  # and would want to read if the server had not said goodbye


@interpreted_only
def test_openssls_part_may_be_nowhere(pairs: Pairs) -> None:
    whole = SimpleNamespace(do_handshake=1, read=2, write=3, unwrap=4, getpeercert=5)
    elsewhere: Any = SimpleNamespace(wrap_bio=lambda *_, **__: whole)
    for server in (None, "localhost"):
        part: Any = records_of(elsewhere, Buffers(), server)
        assert (part.do_handshake, part.read, part.write, part.shutdown, part.getpeercert) == (1, 2, 3, 4, 5)
    assert not isinstance(records_of(pairs.client_context, Buffers(), "localhost"), Documented)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_records_that_come_in_one_piece_are_one_piece(pairs: Pairs, count: int) -> None:
    server, client = pairs.opened()
    texts = [bytes([number]) * (16_384 if number % 2 else 1) for number in range(count)]
    client.sock.send(b"".join(map(client.encrypted, texts)))
    assert server.recv(1 << 18) == b"".join(texts)
    assert received(server) is None


def test_what_is_no_record_ends_that_connection_only(pairs: Pairs) -> None:
    server, client = pairs.opened()
    other, other_client = pairs.opened()
    client.sock.send(client.encrypted(b"fine") + b"\x17\x03\x03\x00\x14" + bytes(20))
    assert received(server) == b"fine"
    assert received(server) == b""
    other_client.sock.send(other_client.encrypted(b"x"))
    assert received(other) == b"x"


def test_a_client_that_comes_back_is_resumed(pairs: Pairs, authority: Authority) -> None:
    _, client = pairs.opened()
    client.read()
    assert not client.tls.session_reused
    context = pairs.client_context
    again, fresh = pairs.made()
    back = Client(fresh.sock, context)
    back.tls = context.wrap_bio(back._in, back._out, server_hostname="localhost", session=client.tls.session)
    back.sock.send(back.step())
    assert not again.shake_hands(again.receive_handshake())
    back.sock.send(back.step())
    assert again.shake_hands(again.receive_handshake())
    assert back.tls.session_reused
    assert not has_slow_key(Tls(authority.folder / "server.crt", authority.folder / "server.key"))


class TcpPairs(Pairs):
    """Over TCP, where a peer can leave by a reset."""

    def made(self) -> tuple[TlsSocket, Client]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            theirs = socket.create_connection(listening.getsockname())
            ours, _ = listening.accept()
        self._sockets += [ours, theirs]
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        return TlsSocket(ours, self._server, self._buffers), Client(theirs, self.client_context)


@pytest.fixture
def tcp_pairs(authority: Authority) -> Iterator[Pairs]:
    made = TcpPairs(authority)
    yield made
    made.close()


def leave(client: Client) -> None:
    """By a reset, which lets nothing more be sent to it."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


def rest_of(server: TlsSocket) -> bytes:
    """All that can be received up to the end, which a reset is, too."""
    found = b""
    with suppress(ConnectionResetError):
        while more := received(server):
            found += more
    return found


def test_what_came_before_a_goodbye_and_a_reset_is_read(tcp_pairs: Pairs) -> None:
    server, client = tcp_pairs.opened()
    client.sock.sendall(client.encrypted(b"last") + client.goodbye())
    leave(client)
    assert rest_of(server) == b"last"


def test_what_came_before_a_reset_is_read_though_records_are_owed(tcp_pairs: Pairs) -> None:
    server, client = tcp_pairs.opened()
    with suppress(BlockingIOError):
        while server.send(bytes(100_000)) == 100_000:
            pass
    client.sock.sendall(client.encrypted(b"last"))
    leave(client)
    assert rest_of(server) == b"last"


def test_what_came_with_the_end_of_a_handshake_is_read_though_the_peer_has_left(tcp_pairs: Pairs) -> None:
    server, client = tcp_pairs.made()
    client.sock.sendall(client.step())
    assert not server.shake_hands(server.receive_handshake())
    client.sock.sendall(client.step() + client.encrypted(b"all of it"))
    leave(client)
    assert server.shake_hands(server.receive_handshake())
    assert server.take_rest() == b"all of it"
