"""mosquitto_pub, mosquitto_sub and mosquitto_rr, as a shell script uses them.  Packet by packet: mosquitto-compat."""

from __future__ import annotations

import subprocess

import pytest
from support.rowcast_process import RowcastProcess

pytestmark = pytest.mark.slow

WITHIN_S = 50.0


def run(tool: str, rowcast: RowcastProcess, *words: str) -> str:
    done = subprocess.run(
        [tool, "-p", str(rowcast.port), *words], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


class Subscriber:
    """A mosquitto_sub that runs beside the test, from its SUBACK on."""

    def __init__(self, rowcast: RowcastProcess, *words: str, tool: str = "mosquitto_sub") -> None:
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", tool, "-d", "-p", str(rowcast.port), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "SUBACK" in line:
                return
        raise AssertionError("no SUBACK")

    def heard(self) -> list[str]:
        """What it printed, apart from -d's lines, when it has ended by itself."""
        output, _ = self.process.communicate(timeout=WITHIN_S)
        assert self.process.returncode == 0
        return [
            line for line in output.splitlines() if line and not line.startswith(("Client ", "Subscribed"))
        ]


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_every_quality_of_service(qos: str, rowcast: RowcastProcess) -> None:
    subscriber = Subscriber(rowcast, "-t", "t/#", "-q", qos, "-C", "2", "-F", "%t %p %q")
    run("mosquitto_pub", rowcast, "-t", "t/a", "-m", "one", "-q", qos)
    run("mosquitto_pub", rowcast, "-t", "t/b", "-m", "two", "-q", qos)
    assert subscriber.heard() == [f"t/a one {qos}", f"t/b two {qos}"]


def test_a_retained_message_is_replayed_and_cleared(rowcast: RowcastProcess) -> None:
    run("mosquitto_pub", rowcast, "-t", "kept", "-m", "value", "-r", "-q", "1")
    assert run("mosquitto_sub", rowcast, "-t", "kept", "-C", "1", "-F", "%p %r") == "value 1\n"
    run("mosquitto_pub", rowcast, "-t", "kept", "-n", "-r")
    subscriber = Subscriber(rowcast, "-t", "kept", "-C", "1")
    run("mosquitto_pub", rowcast, "-t", "kept", "-m", "live")
    assert subscriber.heard() == ["live"]


def test_a_will_goes_out_when_the_process_is_killed(rowcast: RowcastProcess) -> None:
    watcher = Subscriber(rowcast, "-t", "will", "-q", "2", "-C", "1")
    mortal = Subscriber(
        rowcast, "-t", "x", "--will-topic", "will", "--will-payload", "gone", "--will-qos", "2"
    )
    mortal.process.kill()
    mortal.process.wait()
    assert watcher.heard() == ["gone"]


def test_a_session_goes_on_where_it_stopped(rowcast: RowcastProcess) -> None:
    run("mosquitto_sub", rowcast, "-t", "session", "-q", "2", "-c", "-i", "lasting", "-E")
    run("mosquitto_pub", rowcast, "-t", "session", "-m", "one", "-q", "1")
    run("mosquitto_pub", rowcast, "-t", "session", "-m", "two", "-q", "2")
    heard = run("mosquitto_sub", rowcast, "-t", "session", "-q", "2", "-c", "-i", "lasting", "-C", "2")
    # It prints a QoS 2 message when that is complete.
    assert sorted(heard.split()) == ["one", "two"]


def test_a_request_gets_its_response(rowcast: RowcastProcess) -> None:
    device = Subscriber(rowcast, "-t", "cmd/request", "-C", "1")
    asking = Subscriber(
        rowcast, "-V", "mqttv311", "-t", "cmd/request", "-e", "cmd/response", "-m", "ask", tool="mosquitto_rr"
    )
    assert device.heard() == ["ask"]
    run("mosquitto_pub", rowcast, "-t", "cmd/response", "-m", "answer")
    assert asking.heard() == ["answer"]
