"""The table of packet cases played to a real mosquitto: what we refuse it refuses, what we take it takes.

Goal: "as mosquitto" in our code stays a fact.  Method: one mosquitto; for each case that a client could
send, one connection.  A CONNECT is judged by its CONNACK.  Anything else follows a CONNECT and is followed
by a PINGREQ: mosquitto took it if the PINGRESP comes.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator

import pytest
from attrs import frozen
from support.packet_case import Case, InvalidCase, ValidCase
from support.packet_cases import INVALID, VALID, case_name

from protocol.mqtt.errors import ConnectRefused

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c"
CONNACK_ACCEPTED = b"\x20\x02\x00\x00"
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


# 2.1 refuses these, as we do.  (A DISCONNECT is answered with a close either way, so it shows nothing here.)
TAKEN_BY_2_0 = {
    "publish_qos_0_again",
    "puback_too_long",
    "pubrec_too_long",
    "pubrel_too_long",
    "pubcomp_too_long",
    "puback_flags_1",
    "pubrec_flags_2",
    "pubcomp_flags_8",
    "pingreq_flags_1",
    "pingreq_with_body",
}
REFUSED_WITH_CODE_1 = [case for case in INVALID if case.error is ConnectRefused]


@frozen
class Mosquitto:
    path: str
    version: str

    def takes(self, case: Case) -> bool:
        if case.first_byte >> 4 == 1:
            return answer(self.path, case.raw, enough=CONNACK_ACCEPTED) == CONNACK_ACCEPTED
        return answer(self.path, CONNECT, case.raw, PINGREQ, enough=PINGRESP).endswith(PINGRESP)


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A mosquitto of our own that listens on a unix socket."""
    directory = tmp_path_factory.mktemp("mosquitto")
    config, path = directory / "mosquitto.conf", str(directory / "socket")
    config.write_text(f"listener 0 {path}\nallow_anonymous true\nuser root\nlog_type information\n")
    with subprocess.Popen([str(MOSQUITTO), "-c", str(config)], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Mosquitto(path, version_once_running(process))
        finally:
            process.terminate()


def version_once_running(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if running := re.search(r"mosquitto version (\S+) running", line):
            return running[1]
    raise AssertionError("mosquitto did not start")


def answer(path: str, *packets: bytes, enough: bytes) -> bytes:
    """What mosquitto sends back until it closes, or until the answer ends with `enough`."""
    received = b""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(5)
        peer.connect(path)
        try:
            for packet in packets:
                peer.sendall(packet)
            while not received.endswith(enough):
                piece = peer.recv(65_536)
                if not piece:
                    break
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    return received


def from_client(cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if case.from_client and case.first_byte >> 4 != 14]


@pytest.mark.parametrize("case", from_client(VALID), ids=case_name)
def test_what_we_take_mosquitto_takes(mosquitto: Mosquitto, case: ValidCase) -> None:
    assert mosquitto.takes(case)


@pytest.mark.parametrize("case", from_client(INVALID), ids=case_name)
def test_what_we_refuse_mosquitto_refuses(mosquitto: Mosquitto, case: InvalidCase) -> None:
    taken = case.name in TAKEN_BY_2_0 and mosquitto.version.startswith("2.0.")
    assert mosquitto.takes(case) == taken


@pytest.mark.parametrize("case", REFUSED_WITH_CODE_1, ids=case_name)
def test_what_we_refuse_with_code_1_mosquitto_answers(mosquitto: Mosquitto, case: InvalidCase) -> None:
    refused = b"\x20\x02\x00\x01" if mosquitto.version.startswith("2.0.") else b"\x20\x03\x00\x84\x00"
    assert answer(mosquitto.path, case.raw, enough=refused) in (refused, b"\x20\x02\x00\x01")


def test_a_remaining_length_of_five_bytes_is_refused_by_mosquitto(mosquitto: Mosquitto) -> None:
    assert not mosquitto.takes(Case("pingreq", b"\xc0\x80\x80\x80\x80\x00"))
