"""The React hook of docs/how-to/my-rows.md, as it stands there, in React: rows come, change, are another topic's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.rowcast_process import RowcastProcess

ROOT = Path(__file__).parents[2]
SETTINGS = """
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]
[websocket.rowcast]
anonymous_subscribe = ["#"]
anonymous_publish = ["#"]
"""
PROGRAM = """
import { JSDOM } from "jsdom";
import { WebSocket } from "ws";
const { window } = new JSDOM("<div id=root></div>");
Object.assign(globalThis, { window, document: window.document });
Object.defineProperty(globalThis, "navigator", { value: window.navigator, configurable: true });
const { StrictMode, createElement } = await import("react");
const { createRoot } = await import("react-dom/client");
const { Rowcast } = await import("rowcast");
const { useRows } = await import("./hook.mjs");

const client = () => new Rowcast(process.argv[2], { WebSocket });
const rowcast = client(), writer = client();
function List({ topic }) {
  const rows = useRows(rowcast, topic);
  return createElement("ul", null, rows.map((row) => createElement("li", { key: row.id }, `${row.id} ${row.text}`)));
}
const root = createRoot(document.getElementById("root"));
const render = (topic) => root.render(createElement(StrictMode, null, createElement(List, { topic })));
async function shows(...wanted) {
  const shown = () => [...document.querySelectorAll("li")].map((one) => one.textContent);
  while (JSON.stringify(shown()) !== JSON.stringify(wanted)) await new Promise((done) => setTimeout(done, 5));
  console.log(JSON.stringify(wanted));
}
async function write(topic, id, text) {
  while (writer.state !== "open") await new Promise((done) => setTimeout(done, 5));
  await writer.publish(`${topic}/${id}`, { id, text }, { retain: true });
}

await write("mine", 1, "a");
await write("mine", 2, "b");
await write("others", 7, "x");
render("mine/+");
await shows("1 a", "2 b");
await write("mine", 3, "c");
await shows("1 a", "2 b", "3 c");
await write("mine", 1, "A");
await shows("1 A", "2 b", "3 c");
render("others/+");
await shows("7 x");
await write("mine", 4, "d");
await write("others", 8, "y");
await shows("7 x", "8 y");
root.unmount();
await shows();
process.exit(0);
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_the_hook_of_the_how_to_shows_the_rows_in_react(tmp_path: Path) -> None:
    snippets = re.findall(r"```js\n(.*?)```", (ROOT / "docs/how-to/my-rows.md").read_text(), re.DOTALL)
    (hook,) = [one for one in snippets if "useEffect" in one]
    assert len(hook.splitlines()) <= 20
    (tmp_path / "hook.mjs").write_text(hook)
    (tmp_path / "main.mjs").write_text(PROGRAM)
    packages = ["react@19", "react-dom@19", "jsdom@26", "ws@8", str(ROOT / "clients/js")]
    subprocess.run(
        ["npm", "install", "--no-fund", "--no-audit", "--silent", *packages],
        cwd=tmp_path,
        check=True,
        timeout=200,
    )
    with RowcastProcess.from_toml(tmp_path, SETTINGS) as process:
        url = f"ws://127.0.0.1:{process.websocket_port}/rowcast"
        done = subprocess.run(
            ["node", "main.mjs", url], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
    assert done.stderr == ""
    assert [len(json.loads(line)) for line in done.stdout.splitlines()] == [2, 3, 3, 1, 2, 0]
