"""The scenarios and the ledger are whole, whether or not they are played."""

from __future__ import annotations

from pathlib import Path

import pytest
from player import compare, packets
from player.scenario import Scenario, ScenarioError, parse_step, read, read_folder
from player.version5 import in_version_5

HERE = Path(__file__).parents[2] / "mosquitto-compat"
SCENARIOS = read_folder(HERE / "scenarios")


def test_every_area_and_every_subtle_behaviour_has_a_scenario() -> None:
    covered = {point for scenario in SCENARIOS for point in scenario.covers}
    wanted = {f"P{n}" for n in range(1, 11)} | {f"B{n}" for n in range(1, 48)}
    assert wanted - covered == set()
    assert len(SCENARIOS) >= 150
    assert all(scenario.steps for scenario in SCENARIOS)


def test_every_ledger_entry_gives_a_reason_and_lines_of_a_scenario() -> None:
    ledger = compare.read_ledger(HERE / "ledger.txt")
    assert set(ledger) <= {scenario.title for scenario in SCENARIOS}
    assert [entry.title for entry in ledger.values() if len(entry.because) < 10 or not entry.lines] == []


def test_so_does_every_entry_of_the_ledger_of_5_of_a_scenario_that_is_played_so() -> None:
    ledger = compare.read_ledger(HERE / "ledger5.txt")
    played = {scenario.title for scenario in SCENARIOS if isinstance(in_version_5(scenario), Scenario)}
    assert set(ledger) <= played
    assert [entry.title for entry in ledger.values() if len(entry.because) < 10 or not entry.lines] == []


def test_a_scenario_is_played_by_clients_of_5() -> None:
    steps = ["A: connect clean=0 id=x", "T: run mosquitto_pub -p {port} -t t -m x", "A: publish t x"]
    scenario = Scenario("title", Path("x"), steps=[parse_step(text, 1, "x") for text in steps])
    played = in_version_5(scenario)
    assert isinstance(played, Scenario)
    connect, tool, publish = played.steps
    assert connect.options == {
        "version": "5",
        "session-expiry-interval": "4294967295",
        "clean": "0",
        "id": "x",
    }
    assert tool.arguments[-2:] == ["-V", "5"]
    assert publish == scenario.steps[2]


@pytest.mark.parametrize(
    "step", ["A: raw c0 00", "A: connect level=3", "A: connect version=5", "broker: run -h"]
)
def test_a_scenario_that_is_about_a_version_or_none_is_left_out(step: str) -> None:
    scenario = Scenario("title", Path("x"), steps=[parse_step(step, 1, "x")])
    assert isinstance(in_version_5(scenario), str)


def test_differences_are_found_step_by_step() -> None:
    theirs = ["-- A: connect", "   A < CONNACK", "-- A: ping", "   A < PINGRESP"]
    ours = ["-- A: connect", "   A < CONNACK", "   A < closed", "-- A: ping"]
    assert compare.differences(theirs, ours) == ["+ A < closed", "- A < PINGRESP"]
    assert compare.differences(theirs, theirs) == []


def test_an_explanation_must_fit_line_by_line() -> None:
    entry = compare.Entry("title", "because 2.1 does so", ["+ A < closed"])
    assert compare.is_explained(["+ A < closed"], entry)
    assert not compare.is_explained([], entry)
    assert not compare.is_explained(["+ A < closed", "+ B < closed"], entry)
    assert not compare.is_explained(["+ A < closed"], compare.Entry("title", "", ["+ A < closed"]))


def test_a_mistake_in_a_scenario_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "x.scenario"
    path.write_text("[title]\nsteps:\n  connect\n")
    with pytest.raises(ScenarioError, match=r"x\.scenario:3: a step is"):
        read(path)


def test_packets_are_split_and_described() -> None:
    whole, rest = packets.split(bytes.fromhex("20020100 d000 32080001740009") + b"hix" + b"\x40\x02\x00")
    assert [packets.describe(packet) for packet in whole] == [
        "CONNACK present=1 code=0",
        "PINGRESP",
        "PUBLISH 't' 'hix' qos=1 id=9",
    ]
    assert rest == b"\x40\x02\x00"
