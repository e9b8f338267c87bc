"""What was promised, held against what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from benchmarks.arithmetic import Spread, median, ratios
from benchmarks.measurement import Measurement
from benchmarks.results import Results
from benchmarks.workloads.catalogue import BY_NAME

OURS: Final = "Rowcast"
INTERPRETED: Final = "Rowcast interpreted"
THEIRS: Final = "Mosquitto"
RECORD: Final = "encrypt a record of 256 bytes, µs"
"""What `benchmarks.micro` calls that figure."""


@frozen
class Verdict:
    """One promise: `value` None means that it was not measured in this run."""

    key: str
    promise: str
    value: float | None
    by_cpu: float | None
    reached: bool

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        return "reached" if self.reached else "not reached"


def verdicts(results: Results) -> list[Verdict]:
    """All promises in the order in which they were made."""
    return [make(results) for make in _GOALS]


def _times_mosquitto(
    workload: str, title: str, least: float, theirs: str = THEIRS
) -> Callable[[Results], Verdict]:
    """At least that many times as many messages per second.

    Where the generator was the bottleneck on our side, its rate is only a lower bound; then CPU per message
    decides, and the table shows both.
    """

    def make(results: Results) -> Verdict:
        rate = results.rate_ratio(workload, OURS, theirs)
        cpu = results.cpu_ratio(workload, OURS, theirs)
        value, by_cpu = _middle(rate), _middle(cpu)
        reached = value is not None and value >= least
        if not reached and by_cpu is not None and _generator_bound(results, workload):
            reached = by_cpu >= least
        return Verdict(workload, f"{title}: at least {least:g}× {theirs}", value, by_cpu, reached)

    return make


def _middle(value: Spread | None) -> float | None:
    return None if value is None else value.median


def _generator_bound(results: Results, workload: str) -> bool:
    return any(measured.generator_bound for measured in results.measured(workload, OURS))


def _latency_share(key: str, most: float) -> Callable[[Results], Verdict]:
    """The median latency by Mosquitto's, in the same rounds."""

    def value_of(results: Results) -> float | None:
        ours, theirs = (
            [m.latency.p50_us for m in results.measured(key, peer) if m.latency] for peer in (OURS, THEIRS)
        )
        return median(ratios(ours, theirs)) if ours and theirs else None

    return _at_most(key, f"{BY_NAME[key].title}, p50: at most {most:g}× {THEIRS}'s", most, value_of)


def _interpreted(results: Results) -> Verdict:
    """The worst row of the interpreted install against Mosquitto, as Mosquitto's rate by ours."""
    rows = [w for w in results.workloads() if w not in {"start-up", "idle", "connect", "paced-100"}]
    behind = [
        1 / ratio.median
        for workload in rows
        if (ratio := results.rate_ratio(workload, INTERPRETED, THEIRS)) is not None
    ]
    value = max(behind) if behind else None
    return Verdict(
        "interpreted",
        "interpreted: no row behind Mosquitto by more than 1.5×",
        value,
        None,
        value is not None and value <= 1.5,
    )


def _at_most(
    key: str, promise: str, most: float, value_of: Callable[[Results], float | None]
) -> Callable[[Results], Verdict]:
    def make(results: Results) -> Verdict:
        value = value_of(results)
        return Verdict(key, promise, value, None, value is not None and value <= most)

    return make


def _cpu_beside(key: str, other: str, most: float) -> Callable[[Results], Verdict]:
    """The broker's CPU time per delivery in one row by that in another, of the same rounds."""

    def value_of(results: Results) -> float | None:
        this, that = ([measured.cpu_us for measured in results.measured(name, OURS)] for name in (key, other))
        return median(ratios(this, that)) if this and that else None

    return _at_most(key, f"{key}: at most {most:g}× the CPU of {other}", most, value_of)


def _share_of(key: str, most: float, theirs: str = THEIRS) -> Callable[[Results], Verdict]:
    """The broker's CPU time per delivery or client by somebody else's, in the same rounds."""

    def value_of(results: Results) -> float | None:
        ratio = results.cpu_ratio(key, OURS, theirs)
        return None if ratio is None else 1 / ratio.median

    return _at_most(key, f"{BY_NAME[key].title}: at most {most:g}× the CPU of {theirs}", most, value_of)


def _beside_the_cipher(results: Results) -> float | None:
    """What a message to one of many browsers costs without its encryption, by what it costs without TLS."""
    over_tls, plain = results.cpu_us("wss-one", OURS), results.cpu_us("ws-one", OURS)
    record = results.micro.get(OURS, {}).get(RECORD)
    if over_tls is None or plain is None or record is None:
        return None
    return (over_tls - record) / plain


def _churn_cost(results: Results) -> float | None:
    """The share of the steady load's rate that churn takes."""
    steady, beside = results.rate("steady", OURS), results.rate("churn", OURS)
    return 1 - beside / steady if steady and beside is not None else None


def _bytes_per_connection(workload: str) -> Callable[[Results], float | None]:
    def value_of(results: Results) -> float | None:
        known = [m.bytes_per_connection for m in results.measured(workload, OURS)]
        return median([value for value in known if value is not None]) if any(known) else None

    return value_of


def _extra(workload: str, name: str) -> Callable[[Results], float | None]:
    def value_of(results: Results) -> float | None:
        known = [m.extra[name] for m in results.measured(workload, OURS) if name in m.extra]
        return median(known) if known else None

    return value_of


def _micro(name: str) -> Callable[[Results], float | None]:
    return lambda results: results.micro.get(OURS, {}).get(name)


def _websocket(workload: str, title: str) -> Callable[[Results], Verdict]:
    def make(results: Results) -> Verdict:
        value = _middle(results.cpu_ratio(workload, OURS, "websockets"))
        promise = f"{title}: at least 5× `websockets` broadcast in CPU per delivery"
        return Verdict(workload, promise, value, value, value is not None and value >= 5)

    return make


def _feed(key: str, title: str, figure: Callable[[Measurement], float]) -> Callable[[Results], Verdict]:
    def make(results: Results) -> Verdict:
        ours, bare = (
            [figure(measured) for measured in results.measured(key, peer)] for peer in (OURS, "bare LISTEN")
        )
        value = median(ratios(ours, bare)) if ours and bare else None
        promise = f"the feed delivers at least 0.8 of what a bare LISTEN loop drains, {title}"
        return Verdict(key, promise, value, None, value is not None and value >= 0.8)

    return make


_GOALS: Final = (
    _times_mosquitto("burst-1", "1→1 QoS 0 batched", 10),
    _times_mosquitto("burst-100", "1→100 QoS 0", 10),
    _times_mosquitto("burst-900", "1→900 QoS 0", 5),
    _times_mosquitto("single-1", "1→1 one packet per write", 1.2),
    _times_mosquitto("fan-in-100", "100→1", 1.2),
    _latency_share("ping-pong", 0.45),
    _times_mosquitto("qos1-1", "1→1 QoS 1 end to end", 2),
    _times_mosquitto("qos2-1", "1→1 QoS 2 end to end", 2),
    _times_mosquitto("qos1-100", "1→100 QoS 1", 3),
    _times_mosquitto("qos1-900", "1→900 QoS 1", 3),
    _websocket("ws-econia", "WebSocket fan-out 1→1000, Econia, bursts of 10"),
    _websocket("ws-exchange", "the same, exchange"),
    _websocket("ws-canton", "the same, CantonDEX"),
    _websocket("ws-single", "WebSocket fan-out 1→1000, one message at a time"),
    _interpreted,
    _feed("feed-commits", "1 row a transaction", lambda measured: measured.rate),
    _feed("feed-1", "1 000 rows a transaction", lambda measured: measured.extra["drained_per_s"]),
    _at_most("churn", "1 000 SUBSCRIBE/s cost a steady load at most 0.2 of its rate", 0.2, _churn_cost),
    _at_most("idle", "an idle TCP client costs at most 4 096 bytes", 4096, _bytes_per_connection("idle")),
    _at_most(
        "five-idle",
        "an idle client of MQTT 5.0 costs at most 2 662 bytes",
        2662,
        _bytes_per_connection("five-idle"),
    ),
    *(
        _share_of(key, most)
        for key, most in (
            ("ping-pong", 0.9),
            ("qos2-1", 0.5),
            ("qos1-100-narrow", 0.25),
            ("connect-turn", 1.2),
            ("rules-connect", 1.2),
            ("rules-burst-1", 0.2),
            ("tls-single-1", 0.9),
            ("tls-fan-in-100", 0.9),
            ("tls-ping-pong", 0.9),
            ("tls-qos1-100", 0.5),
            ("tls-burst-900", 0.5),
            ("tls-burst-100", 0.35),
            ("tls-qos1-1", 0.5),
            ("tls-qos2-1", 0.7),
            ("tls-connect", 1.1),
        )
    ),
    _latency_share("tls-ping-pong", 0.9),
    _share_of("single-1", 1.25, "floor"),
    _share_of("ws-connect", 1.0, "websockets"),
    _cpu_beside("tls-resume", "tls-connect", 0.3),
    _at_most(
        "wss-one",
        "a message over wss: at most 1.3× the CPU of ws-one, beside what encrypting its record takes",
        1.3,
        _beside_the_cipher,
    ),
    _at_most(
        "tls-idle", "an idle TLS client costs at most 16 000 bytes", 16000, _bytes_per_connection("tls-idle")
    ),
    *(
        _cpu_beside(f"five-{key}", key, 1.1)
        for key in ("burst-1", "single-1", "burst-100", "burst-900", "qos1-1", "qos1-100", "qos2-1")
    ),
    _cpu_beside("five-properties-1", "burst-1", 1.5),
    _cpu_beside("five-properties-100", "burst-100", 1.5),
    _cpu_beside("mixed-1000", "fan-1000", 1.1),
    _cpu_beside("five-mixed-1000", "five-fan-1000", 1.1),
    _at_most(
        "ws-idle",
        "an idle WebSocket client costs at most 16 384 bytes",
        16384,
        _bytes_per_connection("ws-idle"),
    ),
    _at_most("start-up", "listening at most 400 ms after the start", 400, _extra("start-up", "start_ms")),
    _at_most(
        "trie", "1 000 000 subscriptions in at most 400 MB", 400, _micro("trie MB, 1 000 000 subscriptions")
    ),
    _at_most("match", "an uncached match in less than 10 µs", 10, _micro("match, not cached, µs")),
    _at_most("soak", "an hour's soak grows RSS by at most 0.05", 0.05, _micro("soak growth")),
)
