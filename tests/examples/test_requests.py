"""The device and the controller of docs/how-to/requests.md, of both versions, and what the ACL file forbids."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.raw5 import over_tcp
from support.rowcast_process import RowcastProcess

from protocol.mqtt.packets import Puback, Publish
from protocol.mqtt.v5.reasons import ReasonCode

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples/requests"
WITHIN_S = 60.0
VERSIONS = ("5", "3.1.1")


@pytest.fixture(scope="module")
def rowcast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowcastProcess]:
    folder = tmp_path_factory.mktemp("requests")
    shutil.copy(FILES / "acl", folder)
    (folder / "acl").chmod(0o600)
    for number, name in enumerate(("controller", "pump-7", "pump-8", "pump-9")):
        command = [sys.executable, "-m", "broker", "passwd", *(("-c",) if number == 0 else ()), "-b"]
        subprocess.run([*command, folder / "passwd", name, "secret"], check=True, capture_output=True)
    (folder / "passwd").chmod(0o600)
    with RowcastProcess(folder, f"password_file {folder}/passwd\nacl_file {folder}/acl\n") as process:
        yield process


@contextmanager
def device(rowcast: RowcastProcess, version: str, name: str) -> Iterator[None]:
    program = str(FILES / "device.py")
    command = [sys.executable, program, version, name, "secret", "127.0.0.1", str(rowcast.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{name} is ready\n"
            yield
        finally:
            process.kill()


def ask(
    rowcast: RowcastProcess, version: str, name: str, request: str, payload: str
) -> tuple[int, dict[str, object]]:
    program = str(FILES / "controller.py")
    command = [sys.executable, program, version, name, request, payload, "secret"]
    done = subprocess.run(
        [*command, "127.0.0.1", str(rowcast.port)],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_answers_controllers_of_both_versions_and_mosquitto_rr(
    rowcast: RowcastProcess, version: str
) -> None:
    name = f"pump-{7 + VERSIONS.index(version)}"
    with device(rowcast, version, name):
        for asked_by in VERSIONS:
            if (version, asked_by) == ("3.1.1", "5"):
                continue  # without properties the device does not see where to answer
            assert ask(rowcast, asked_by, name, "set-speed", '{"speed": 1200}') == (
                0,
                {"status": "done", "speed": 1200},
            )
        status, answer = ask(rowcast, "3.1.1", name, "set-speed", '{"speed": 99999}')
        assert (status, answer["status"]) == (1, "refused")
        assert ask(rowcast, "3.1.1", name, "explode", "{}")[1]["reason"] == "there is no explode"
        back = "cmd/plant/hall-1/shell/result"
        about = {"transaction_id": "1", "response_topic": back, "speed": 5}
        for level in ("5", "311") if version == "5" else ("311",):
            payload = '{"speed": 5}' if level == "5" else json.dumps(about)
            words = ["-D", "publish", "correlation-data", "1"] if level == "5" else []
            done = subprocess.run(
                ["mosquitto_rr", "-V", level, "-u", "controller", "-P", "secret", "-p", str(rowcast.port),
                 "-t", f"cmd/plant/hall-1/{name}/set-speed", "-e", back, "-W", "20", *words, "-m", payload],
                capture_output=True, text=True, timeout=WITHIN_S, check=False,
            )  # fmt: skip
            answer = json.loads(done.stdout)
            assert (answer["status"], answer["speed"]) == ("done", 5), done.stderr
    watcher = over_tcp(rowcast.port)
    watcher.connect(b"watcher", user_name=b"controller", password=b"secret")
    watcher.subscribe(f"connected/plant/+/{name}".encode(), 0)
    while watcher.publication().payload != b"0":  # its will: it was killed
        pass


def test_a_device_may_not_speak_or_listen_for_others(rowcast: RowcastProcess) -> None:
    pump = over_tcp(rowcast.port)
    pump.connect(b"pump-9", user_name=b"pump-9", password=b"secret")
    pump.subscribe(b"#", 1)
    controller = over_tcp(rowcast.port)
    controller.connect(b"c", user_name=b"controller", password=b"secret")
    for topic in (b"cmd/plant/hall-1/pump-7/set-speed", b"cmd/plant/hall-1/pump-9/set-speed"):
        controller.send(Publish(topic, b"{}", 1, packet_id=1))
        assert isinstance(controller.receive(), Puback)
    assert pump.publication().topic == b"cmd/plant/hall-1/pump-9/set-speed"  # and only that
    forbidden = (
        b"cmd/plant/hall-1/pump-7/set-speed",
        b"status/plant/hall-1/pump-7/state",
        b"connected/plant/hall-1/pump-7",
    )
    for topic in forbidden:
        pump.send(Publish(topic, b"{}", 1, packet_id=2))
        assert pump.receive() == Puback(2, ReasonCode.NOT_AUTHORIZED)


def test_the_page_shows_the_files_as_they_are() -> None:
    page = (ROOT / "docs/how-to/requests.md").read_text()
    shown = re.search(r"```text\n(pattern.*?)```", page, re.S)
    assert shown is not None
    rules = [line for line in (FILES / "acl").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in shown[1].splitlines() if line] == rules
    schema = json.loads((FILES / "schema.json").read_text())
    assert set(schema["$defs"]) == {"transaction_id", "request", "answer"}
