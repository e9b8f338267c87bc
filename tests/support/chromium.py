"""A page in a headless Chromium, driven over its DevTools protocol, for tests that look at what a person sees."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trio_websocket

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip
START_S = 60.0
ANSWER_S = 30.0


def is_there() -> bool:
    return shutil.which("chromium") is not None


class Page:
    """One tab."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket
        self._asked = 0
        self._session = ""

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_message(json.dumps(message))
        with trio.fail_after(ANSWER_S):
            while True:
                answer = json.loads(await self._socket.get_message())
                if answer.get("id") == self._asked:
                    assert "error" not in answer, answer
                    return dict(answer["result"])

    async def another(self) -> Page:
        """Another tab of the same browser; only one of them at a time may be waited for."""
        made = Page(self._socket)
        made._asked = 1_000_000
        await made.open()
        return made

    async def close(self) -> None:
        await self._call("Page.close")

    async def open(self) -> None:
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]

    async def show(self, url: str, width: int, height: int, *, dark: bool = False) -> None:
        """Go there, in a window of that size in CSS pixels."""
        await self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._call("Emulation.setEmulatedMedia", features=[scheme])
        await self._call("Page.navigate", url=url)

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str, seconds: float = ANSWER_S) -> None:
        """Wait until an expression is true."""
        with trio.move_on_after(seconds):
            while not await self.run(f"document.readyState === 'complete' && Boolean({expression})"):  # noqa: ASYNC110
                await trio.sleep(0.05)
            return
        raise AssertionError(
            f"not true: {expression}; the page says: {await self.run('document.body.innerText')}"
        )

    async def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            text = "\r" if key == "Enter" and kind == "keyDown" else ""
            await self._call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
            )

    async def picture(self, path: Path) -> None:
        answer = await self._call("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """A Chromium with an empty profile in that folder, and one tab."""
    profile = folder / "profile"
    command = ["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file = trio.Path(profile / "DevToolsActivePort")
        with trio.fail_after(START_S):
            while not await port_file.exists() or "\n" not in await port_file.read_text():  # noqa: ASYNC110
                await trio.sleep(0.05)
        port, path = (await port_file.read_text()).splitlines()[:2]
        async with trio_websocket.open_websocket("127.0.0.1", int(port), path, use_ssl=False) as socket:
            page = Page(socket)
            await page.open()
            yield page
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
