"""The example programs receive a fill from a running broker and print it, 39 digits and all."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import trio

from broker import Broker, Config, Listener
from broker.config.model import Security

ROOT = Path(__file__).parent.parent.parent
CLIENTS = ROOT / "examples" / "clients"
INSTALLED = ROOT / ".venv" / "clients"
"""Where `make test-all` installs what the examples import."""
ORDER_ID = 170141183460469231816555742076238414229
FILL = b'{"market_id":3,"price":9994,"size":53,"maker_order_id":%d}' % ORDER_ID
TOPIC = "fill/3/0xc0deface/1"
CONFIG = Config(
    listeners=(
        Listener(0, host="127.0.0.1", security=Security(allow_anonymous=True)),
        Listener(0, host="127.0.0.1", protocol="websockets", security=Security(allow_anonymous=True)),
    )
)


async def line_printed_for_a_fill(broker: Broker, command: Sequence[str | Path], cwd: Path) -> str:
    """What the program prints when, after it has said that it subscribed, a fill is published."""
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, list(map(str, command)), stdout=subprocess.PIPE, cwd=cwd, check=False)
        process = await nursery.start(run)
        lines = aiter_lines(process.stdout)
        assert await anext(lines) == "subscribed to fill/+/0xc0deface/+"
        await broker.publish("fill/3/0xsomebody/0", FILL)
        await broker.publish(TOPIC, FILL)
        line: str = await anext(lines)
        nursery.cancel_scope.cancel()
    return line


async def aiter_lines(stream: trio.abc.ReceiveStream):  # type: ignore[no-untyped-def]
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode()


async def test_paho_client_prints_the_fill() -> None:
    async with Broker(CONFIG) as broker:
        command = [
            sys.executable,
            str(CLIENTS / "paho_fills.py"),
            "127.0.0.1",
            str(broker.ports[0]),
            "0xc0deface",
        ]
        line = await line_printed_for_a_fill(broker, command, CLIENTS)
    assert line == f"{TOPIC} price 9994 size 53 maker order {ORDER_ID}"


@pytest.mark.slow
async def test_aiomqtt_client_prints_the_fill() -> None:
    python = INSTALLED / "aiomqtt" / "bin" / "python"
    if not python.exists():
        pytest.skip("aiomqtt is not installed: scripts/setup-clients")
    async with Broker(CONFIG) as broker:
        command = [
            str(python),
            str(CLIENTS / "aiomqtt_fills.py"),
            "127.0.0.1",
            str(broker.ports[0]),
            "0xc0deface",
        ]
        line = await line_printed_for_a_fill(broker, command, CLIENTS)
    assert line == f"{TOPIC} price 9994 size 53"


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "index"), [("mqtt", 0), ("ws", 1)])
async def test_mqttjs_client_prints_the_fill(tmp_path: Path, scheme: str, index: int) -> None:
    modules = INSTALLED / "node" / "node_modules"
    if not modules.exists():
        pytest.skip("MQTT.js is not installed: scripts/setup-clients")
    shutil.copytree(CLIENTS, tmp_path / "clients")
    (tmp_path / "node_modules").symlink_to(modules)
    async with Broker(CONFIG) as broker:
        url = f"{scheme}://127.0.0.1:{broker.ports[index]}"
        command = ["node", "mqttjs_fills.mjs", url, "0xc0deface"]
        line = await line_printed_for_a_fill(broker, command, tmp_path / "clients")
    assert line == f"{TOPIC} price 9994 size 53 maker order {ORDER_ID}"


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_exact_json_keeps_every_digit_and_leaves_strings_alone() -> None:
    program = """
        import { parseExactly } from "./exact_json.mjs";
        const parsed = parseExactly('{"a":12345678901234567890,"b":"12345678901234567890 \\\\" 1","c":[1.5]}');
        console.log(String(parsed.a), parsed.b, parsed.c[0]);
    """
    command = ["node", "--input-type=module", "-e", program]
    done = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, check=True)
    assert done.stdout == '12345678901234567890 12345678901234567890 " 1 1.5\n'
