import json

import attrs
import pytest

from broker.demo.measure import Summary
from broker.demo.view import Figures, Transport, json_line, page, report, rows_of

EXACT = Summary(expected=1234, received=1234, lost=0, duplicated=0, unexpected=0, p50_s=0.00061, p99_s=0.0119)
URL = "ws://127.0.0.1:3001/fill_event/" + "x" * 81
SNAPSHOT = Figures(
    postgres_version="15.18",
    elapsed_s=3725.4,
    events=1234,
    transactions=400,
    events_rate=201.3,
    transports=(Transport("MQTT", EXACT, 230.0), Transport("WebSocket", EXACT, 200.0)),
    arrived=(
        ("MQTT", "fill/3/0x" + "ab" * 32 + "/0", '{"price":1,"note":"\N{COIN}\\n"}'),
        ("WebSocket", "fill_event", '{"channel" : "fill_event"}'),
    ),
    invitations=("mosquitto_sub -p 21883", URL, "psql -h /tmp/x"),
)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 40), (60, 20), (200, 60)])
def test_page_fits_and_only_commands_wrap(width: int, height: int) -> None:
    lines = page(SNAPSHOT, width, height)
    assert sum(rows_of(line, width) for line in lines) <= height
    assert {line.strip() for line in lines if rows_of(line, width) > 1} <= {URL}


def test_page_at_80_by_24_shows_everything() -> None:
    text = "\n".join(page(SNAPSHOT, 80, 24))
    for part in ("1,234 events", "0.61 ms", "11.90 ms", "fill/3/0xabab…bab/0", URL, "psql -h", "1:02:05"):
        assert part in text


def test_low_terminal_gives_up_what_just_arrived_and_keeps_the_balance() -> None:
    text = "\n".join(page(SNAPSHOT, 80, 20))
    assert "Just arrived" not in text
    assert URL in text


def test_report_is_one_line() -> None:
    assert "\n" not in report(SNAPSHOT)
    assert "MQTT 1,234/1,234 lost 0 twice 0 p50 0.61 ms p99 11.90 ms" in report(SNAPSHOT)


def test_json_line_names_every_count() -> None:
    summary = json.loads(json_line(SNAPSHOT, ok=True))
    assert summary["mqtt"] == {
        "expected": 1234,
        "received": 1234,
        "lost": 0,
        "duplicated": 0,
        "unexpected": 0,
        "p50_ms": 0.61,
        "p99_ms": 11.9,
    }
    assert (summary["events"], summary["ok"]) == (1234, True)


def test_more_than_was_due_is_shown() -> None:
    more = Transport("MQTT", attrs.evolve(EXACT, unexpected=7), 1.0)
    text = "\n".join(page(attrs.evolve(SNAPSHOT, transports=(more,)), 80, 24))
    assert "7 more" in text
