import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import plots
from benchmarks.clients import Address
from benchmarks.goals import verdicts
from benchmarks.machine import cpu_seconds, resident_bytes
from benchmarks.measurement import Clocks, Measurement, Pipeline, Target
from benchmarks.peers import flashmq, rowcast
from benchmarks.peers.kinds import Peer
from benchmarks.peers.rowcast import EARLIER
from benchmarks.plots import svg
from benchmarks.report import render
from benchmarks.results import Record, Results, load, save
from benchmarks.runner import planned, run
from benchmarks.workloads import connections
from benchmarks.workloads.catalogue import WORKLOADS


def measured(rate: float, cpu_us: float, generator_share: float = 0.5) -> Measurement:
    """One second at this rate and cost."""
    return Measurement(int(rate), 1.0, rate * cpu_us / 1e6, generator_share)


def results(*records: Record) -> Results:
    return Results("machine", "abc", "command", "today", 1.0, 2, {"Rowcast": "1"}, list(records))


def test_measurement_divides_by_the_right_things() -> None:
    one = Measurement(messages=1000, seconds=2.0, broker_cpu_s=0.5, generator_cpu_s=1.0)
    assert (one.rate, one.cpu_us, one.broker_share, one.generator_share) == (500, 500, 0.25, 0.5)


def test_generator_bound_needs_a_busy_generator_and_an_idle_broker() -> None:
    assert Measurement(1, 1.0, 0.5, 0.95).generator_bound
    assert not Measurement(1, 1.0, 0.95, 0.95).generator_bound
    assert not Measurement(1, 1.0, 0.5, 0.5).generator_bound


def test_pipeline_keeps_its_depth_under_way() -> None:
    log: list[str] = []
    pipeline = Pipeline(lambda: log.append("send"), lambda: log.append("receive"), depth=2)
    for _ in range(3):
        pipeline.cycle()
    assert log == ["send", "send", "receive", "send", "receive"]
    assert len(pipeline.samples_us) == 2
    pipeline.drain()
    assert log.count("send") == log.count("receive")


def test_clocks_charge_the_process_that_was_named() -> None:
    address = Address("127.0.0.1", 1)
    clocks = Clocks(Target("me", os.getpid(), 0.0, address, address))
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) - before < 0.05:
        pass
    found = clocks.measure(10)
    assert 0.04 <= found.broker_cpu_s <= found.seconds + 0.02
    assert found.messages == 10


def test_cpu_seconds_of_an_ended_process_is_an_error() -> None:
    with pytest.raises(ProcessLookupError):
        cpu_seconds(2**22 + 1)


def test_resident_bytes_is_a_plausible_size() -> None:
    assert 1_000_000 < resident_bytes(os.getpid()) < 10_000_000_000


def test_ratios_are_taken_round_by_round() -> None:
    found = results(
        Record("burst-1", "Rowcast", 1, measured(1000, 1)),
        Record("burst-1", "Mosquitto", 1, measured(100, 10)),
        Record("burst-1", "Rowcast", 2, measured(600, 2)),
        Record("burst-1", "Mosquitto", 2, None, "it broke"),
        Record("burst-1", "Rowcast", 3, measured(900, 2)),
        Record("burst-1", "Mosquitto", 3, measured(50, 20)),
    )
    rate, cpu = (f("burst-1", "Rowcast", "Mosquitto") for f in (found.rate_ratio, found.cpu_ratio))
    assert rate is not None
    assert cpu is not None
    assert (rate.lowest, rate.median, rate.highest) == (10, 14, 18)
    assert cpu.median == pytest.approx(10)


def verdict_on(found: Results, key: str) -> str:
    return next(verdict.word for verdict in verdicts(found) if verdict.key == key)


@pytest.mark.parametrize(
    ("ours", "word"),
    [
        (measured(1000, 1), "reached"),
        (measured(990, 0.1), "not reached"),
        (measured(990, 1, generator_share=0.95), "reached"),  # the generator was the limit, so CPU decides
        (measured(990, 2, generator_share=0.95), "not reached"),
    ],
)
def test_ten_times_mosquitto_is_judged_by_rate_unless_the_generator_was_the_limit(
    ours: Measurement, word: str
) -> None:
    found = results(
        Record("burst-1", "Rowcast", 1, ours), Record("burst-1", "Mosquitto", 1, measured(100, 10))
    )
    assert verdict_on(found, "burst-1") == word


def test_what_was_not_measured_is_not_judged() -> None:
    assert {verdict.word for verdict in verdicts(results())} == {"not measured"}


def test_report_begins_with_what_is_behind_and_then_says_what_was_not_reached() -> None:
    found = results(
        Record("burst-1", "Rowcast", 1, measured(300, 1)),
        Record("burst-1", "Mosquitto", 1, measured(100, 10)),
        Record("ping-pong", "Rowcast", 1, measured(100, 20)),
        Record("ping-pong", "Mosquitto", 1, measured(100, 10)),
    )
    _, _, table, missed, those, *_ = render(found).split("\n\n")
    rows = table.split("\n")[2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| ping-pong, one in flight",
        "| 1→1 QoS 0, publisher batches 200",
    ]
    assert " | **2** | " in rows[0]
    assert missed.startswith("Not reached, 2 of the ")
    assert [line[:2] for line in those.split("\n")] == ["- ", "- "]
    assert "at least 10× Mosquitto (measured 3)" in those


def test_an_earlier_version_is_compared_row_by_row_and_what_takes_more_comes_first() -> None:
    before = f"{EARLIER}abc1234"
    found = results(
        *(Record("burst-1", "Rowcast", number, measured(300, cpu)) for number, cpu in ((1, 1.0), (2, 1.02))),
        *(Record("burst-1", before, number, measured(300, 1)) for number in (1, 2)),
        Record("ping-pong", "Rowcast", 1, measured(100, 20)),
        Record("ping-pong", before, 1, measured(100, 10)),
        Record("single-1", before, 1, None, "NotStarted"),
    )
    text = render(found)
    part = text[text.index(f"## Beside {before}") :].split("\n\n")
    assert part[1].endswith("1 of 2 rows by CPU.")
    rows = [line.split(" | ") for line in part[2].split("\n")[2:]]
    assert [row[0] for row in rows] == ["| ping-pong, one in flight", "| 1→1 QoS 0, publisher batches 200"]
    assert [row[1] for row in rows] == ["**2× (2 – 2)**", "1.01× (1 – 1.02)"]


def test_a_commit_that_does_not_exist_is_told() -> None:
    with pytest.raises(SystemExit, match="there is no such commit"):
        rowcast.earlier("rowcast=no-such-commit")


def test_the_picture_has_no_exponents_and_says_the_same_as_text() -> None:
    groups: plots.Bars = [("connect", [4916.0, 0.0772, None]), ("nobody", [None, None, None])]
    picture = plots.svg("CPU", ["a", "b", "c"], groups)
    assert ">4,916<" in picture
    assert ">0.0772<" in picture
    assert "e+" not in picture
    assert "nobody" not in picture
    assert "| connect | 4,916 | 0.0772 | – |" in plots.as_text("CPU", ["a", "b", "c"], groups)


def test_the_picture_has_at_most_eight_rows_and_other_brokers(tmp_path: Path) -> None:
    records = [
        Record(workload.name, peer, 1, measured(1000, 1))
        for workload in WORKLOADS
        for peer in ("Rowcast", "Mosquitto", EARLIER + "abc")
    ]
    plots.draw(results(*records), tmp_path)
    head, *rows = (line for line in (tmp_path / "cpu.md").read_text().splitlines() if line.startswith("| "))
    assert head == "|  | Rowcast | Mosquitto |"
    assert 1 < len(rows) - 1 <= 8  # and one that aligns the columns
    for row in rows[1:]:
        assert f">{row.split(' | ')[0].removeprefix('| ')}<" in (tmp_path / "cpu.svg").read_text()


def test_a_broker_that_is_no_program_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="write flashmq=PATH, nanomq=PATH or rowcast=COMMIT"):
        flashmq.given("emqx=/bin/sh")
    with pytest.raises(SystemExit, match="is no program"):
        flashmq.given(f"flashmq={tmp_path}/none")
    assert flashmq.given("flashmq=/bin/sh").name == "FlashMQ"


def test_results_survive_being_saved(tmp_path: object) -> None:
    from pathlib import Path

    found = results(Record("burst-1", "Rowcast", 1, measured(300, 1)), Record("idle", "x", 1, None, "why"))
    path = Path(str(tmp_path)) / "deeper" / "results.json"
    save(found, path)
    assert load(path) == found


def test_picture_has_a_bar_for_each_value_and_none_for_a_missing_one() -> None:
    drawn = svg("t", ["a", "b"], [("first", [1.0, 10.0]), ("second <&>", [None, 100.0])])
    assert drawn.count('class="value">1<') >= 1
    assert drawn.count("<rect") == 1 + 2 + 3  # background, legend, bars
    assert "second &lt;&amp;&gt;" in drawn


def test_a_run_that_is_cut_short_has_every_row_before_any_twice() -> None:
    one, two = WORKLOADS[0], WORKLOADS[1]
    broker = Peer("broker", frozenset({one.needs}), lambda: "1", unused)
    done = results(Record(one.name, "broker", 1))
    assert planned(results(), [one, two], [broker]) == [
        (one, 1, broker),
        (two, 1, broker),
        (one, 2, broker),
        (two, 2, broker),
    ]
    assert planned(done, [one, two], [broker])[0] == (two, 1, broker)
    assert done.rounds_taken() == (1, 1)


def test_nothing_is_begun_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.runner.pin_generator", lambda: None)  # this process is not one
    taken = results()
    broker = Peer("broker", frozenset({WORKLOADS[0].needs}), lambda: "1", unused)
    run(taken, WORKLOADS[:1], [broker], lambda: None, until=0.0)
    assert not taken.records


def test_the_report_says_how_often_each_row_was_measured() -> None:
    alike = results(*(Record("burst-1", "Rowcast", number, measured(1, 1)) for number in (1, 2)))
    assert "2 rounds of 1 s" in render(alike)
    cut = results(*alike.records, Record("single-1", "Rowcast", 1, measured(1, 1)))
    assert "1 to 2 rounds of each row" in render(cut)


@contextmanager
def unused(directory: Path, needs: str) -> Iterator[Target]:
    raise AssertionError("no broker is started")
    yield


def test_clients_that_arrive_at_a_pace_are_each_timed_to_their_suback() -> None:
    count = 70
    with socket.create_server(("127.0.0.1", 0), backlog=count) as server, ThreadPoolExecutor(1) as broker:
        served = broker.submit(answer, server, count)
        address = Address("127.0.0.1", server.getsockname()[1])
        found = connections.connect_paced(Target("me", os.getpid(), 0.0, address, address), 0, count, 0.01)
        served.result()
    assert (found.messages, found.latency and found.latency.samples) == (count, count)
    assert found.extra["opened_s"] > 0


def answer(server: socket.socket, count: int) -> None:
    """CONNACK and SUBACK for as many, in two pieces."""
    for _ in range(count):
        client, _ = server.accept()
        with client:
            client.recv(1000)
            client.sendall(b"\x20\x02\x00")
            client.sendall(b"\x00\x90\x03\x00\x01\x00")
