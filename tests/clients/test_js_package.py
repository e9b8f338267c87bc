"""`npm pack` of the JavaScript client: what is in it, how large it is, and that it works where it is installed."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.rowcast_process import RowcastProcess

CLIENT = Path(__file__).parents[2] / "clients/js"
GZIPPED_BYTES_MAX = 5 * 1024
SHARED_BYTES_MAX = 3 * 1024
BUNDLE_BYTES_MAX = 5000
SETTINGS = """
[[listener]]
port = {port}
host = "127.0.0.1"
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]
[websocket.rowcast]
anonymous_subscribe = ["#"]
anonymous_publish = ["#"]
[[history]]
topics = ["chat/#"]
[security]
allow_anonymous = true
"""
PROGRAM = """
import { Rowcast } from "rowcast";
import { WebSocket } from "ws";
const rowcast = new Rowcast(process.argv[2], { WebSocket: globalThis.WebSocket ?? WebSocket });
const chat = rowcast.subscribe("chat/#", {
  onMessage: (message) => { console.log(JSON.stringify([message.topic, message.data])); rowcast.close(); },
  onLive: () => rowcast.publish("chat/7", { text: "hello" }),
});
"""


def test_it_is_as_small_as_it_says() -> None:
    """What every page loads; a page that asks for `shared` loads the other file, too."""
    index, shared = ((CLIENT / name).read_bytes() for name in ("index.js", "shared.js"))
    assert len(gzip.compress(index, 9)) <= GZIPPED_BYTES_MAX
    assert len(gzip.compress(shared, 9)) <= SHARED_BYTES_MAX


def npm(*words: str, folder: Path) -> str:
    done = subprocess.run(["npm", *words], cwd=folder, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_all_of_it_is_as_small_in_a_bundle(tmp_path: Path) -> None:
    npm("install", "--no-fund", "--no-audit", "esbuild@0.25", folder=tmp_path)
    bundler = str(tmp_path / "node_modules/.bin/esbuild")
    words = [bundler, str(CLIENT / "index.js"), "--bundle", "--minify", "--format=esm"]
    bundle = subprocess.run(words, capture_output=True, check=True, timeout=60).stdout
    assert b"BroadcastChannel" in bundle  # what `shared` needs is in it
    assert len(gzip.compress(bundle, 9)) <= BUNDLE_BYTES_MAX


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_the_packed_client_is_installed_and_works(tmp_path: Path) -> None:
    (packed,) = json.loads(npm("pack", "--json", f"--pack-destination={tmp_path}", folder=CLIENT))
    assert {file["path"] for file in packed["files"]} == {
        "README.md",
        "index.d.ts",
        "index.js",
        "shared.js",
        "package.json",
    }
    program = tmp_path / "program"
    program.mkdir()
    (program / "package.json").write_text('{"type": "module", "private": true}')
    npm("install", "--no-fund", "--no-audit", str(tmp_path / packed["filename"]), "ws@8", folder=program)
    (program / "main.js").write_text(PROGRAM)
    with RowcastProcess.from_toml(tmp_path, SETTINGS) as process:
        url = f"ws://127.0.0.1:{process.websocket_port}/rowcast"
        done = subprocess.run(
            ["node", "main.js", url], cwd=program, capture_output=True, text=True, timeout=60
        )
    assert (done.stdout, done.stderr) == ('["chat/7",{"text":"hello"}]\n', "")
