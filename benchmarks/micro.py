"""The parts that every message passes, alone: framing, codec, match.  Compiled or not, as this interpreter has them.

    python -m benchmarks.micro [--subscriptions 1000000] [--certificate PATH] [--json]

The full run calls this file with the interpreter of each Rowcast install.  Figures are the best of several rounds:
what the code can do, not what the machine's mood made of it.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from broker.core.receiver import Receiver
from broker.core.trie import SubscriptionTrie
from protocol.mqtt import codec, framing
from protocol.mqtt.packets import Puback, Publish

ROUNDS: Final = 7
CALLS: Final = 20_000
TOPIC: Final = b"fill/3/0xc0deface/0"
PER_RECEIVER: Final = 100
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument(
        "--subscriptions", type=int, default=1_000_000, metavar="N", help="in the trie (1000000)"
    )
    parser.add_argument(
        "--certificate",
        type=Path,
        metavar="PATH",
        help="of localhost, with .crt and .key behind it: measures TLS, too",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = {**packet_figures(), **trie_figures(options.subscriptions)}
    if options.certificate is not None:
        figures |= record_figures(options.certificate)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{value:10.3f}  {name}")


def packet_figures() -> dict[str, float]:
    publish = codec.encode(Publish(TOPIC, bytes(64)))
    acknowledged = codec.encode(Publish(TOPIC, bytes(64), 1, packet_id=7))
    puback = codec.encode(Puback(7))
    return {
        "frame a PUBLISH, µs": _best(lambda: framing.frame_at(publish, 0, 0)),
        "decode PUBLISH QoS 0, µs": _best(lambda: codec.decode(publish[0], publish[2:])),
        "decode PUBLISH QoS 1, µs": _best(lambda: codec.decode(acknowledged[0], acknowledged[2:])),
        "decode PUBACK, µs": _best(lambda: codec.decode(puback[0], puback[2:])),
        "encode PUBLISH QoS 1, µs": _best(lambda: codec.encode(Publish(TOPIC, b"x", 1, packet_id=7))),
    }


def trie_figures(subscriptions: int) -> dict[str, float]:
    """One in ten subscriptions has wildcards; every receiver holds a hundred."""
    receivers = [Receiver(True) for _ in range(subscriptions // PER_RECEIVER)]
    trie = SubscriptionTrie()
    before = _resident_mb()
    began = time.perf_counter()
    for number, receiver in enumerate(receivers):
        for i in range(PER_RECEIVER):
            trie.subscribe(_filter(number, i), receiver, 0)
    seconds = time.perf_counter() - began
    figures = {
        f"trie MB, {f'{subscriptions:,}'.replace(',', ' ')} subscriptions": _resident_mb() - before,
        "subscribe, µs": seconds / trie.count * 1e6,
    }
    topics = [b"fill/%d/0x%06x/%d" % (i % 90, i % len(receivers), i % 7) for i in range(CALLS)]
    figures["match, not cached, µs"] = _best_of_misses(trie, topics)
    trie.match(TOPIC)
    figures["match, cached, µs"] = _best(lambda: trie.match(TOPIC))
    return figures


def record_figures(certificate: Path) -> dict[str, float]:
    """What OpenSSL takes for a short record, called from Python."""
    server, outgoing = _encrypted(certificate)
    payload = bytes(256)

    def write() -> None:
        server.write(payload)
        outgoing.read()

    return {"encrypt a record of 256 bytes, µs": _best(write)}


def _encrypted(certificate: Path) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """The server's end of a connection in memory, and what it writes to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.with_suffix(".crt"), certificate.with_suffix(".key"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    trusting = ssl.create_default_context(cafile=str(certificate.with_suffix(".crt")))
    client = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
    waiting = [client, server]
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)
    return server, to_client


def _filter(number: int, i: int) -> bytes:
    account = b"0x%06x" % number
    if i % 10 == 0:
        return (b"fill/+/%s/%d" if i % 20 else b"fill/%s/#") % ((account, i) if i % 20 else (account,))
    return b"fill/%d/%s/%d" % (i, account, i % 7)


def _best_of_misses(trie: SubscriptionTrie, topics: list[bytes]) -> float:
    best = float("inf")
    for _ in range(3):
        trie.forget()
        began = time.perf_counter()
        for topic in topics:
            trie.match(topic)
        best = min(best, time.perf_counter() - began)
    return best / len(topics) * 1e6


def _best(call: Callable[[], object]) -> float:
    """Microseconds per call, with what calling it from Python costs."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, time.perf_counter() - began)
    return best / CALLS * 1e6


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6


if __name__ == "__main__":
    main()
