"""Ports for administration and metrics over their lives, and `$SYS` as often as it is wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from attrs import evolve
from support.ports import free_port
from support.report_app import App

from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import AdminHttp, Config
from broker.core.receiver import Receiver
from broker.feed.status import FeedStatus
from broker.gateway.gateway import Gateway
from broker.links.listening.accept import ListenError
from broker.links.listening.inherited import Inherited
from broker.operation import SYS_QOS, Operation


def app_of(**settings: Any) -> Any:
    app: Any = App()
    app.inherited = Inherited()
    app.config = Config(**settings)
    return app


@asynccontextmanager
async def started(app: Any) -> AsyncIterator[Operation]:
    """As it is between its start and its end."""
    operation = Operation(app)
    operation.open()
    async with trio.open_nursery() as nursery:
        app.server.nursery = nursery
        operation.start(nursery, gateway_of(app) if app.config.admin else None)
        yield operation
        nursery.cancel_scope.cancel()


def gateway_of(app: Any) -> Gateway:
    return Gateway(GatewayConfig(), app.engine)


async def status_of(port: int, path: str, token: str = "") -> int | None:
    """None where nobody listens."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(f"http://127.0.0.1:{port}{path}", headers=headers)).status_code
        except httpx.ConnectError:
            return None


@pytest.mark.parametrize("wanted", [(), ("admin",), ("metrics",), ("admin", "metrics")], ids="-".join)
async def test_ports_are_open_where_they_are_wanted_and_say_where(wanted: tuple[str, ...]) -> None:
    async with started(app_of(**{name: AdminHttp(0) for name in wanted})) as operation:
        ports = {"admin": operation.admin_port, "metrics": operation.metrics_port}
        assert {name for name, port in ports.items() if port} == set(wanted)
        sockets = operation.sockets()
        assert [sock.getsockname()[1] for sock in sockets] == [port for port in ports.values() if port]
        for sock in sockets:
            sock.close()
        for name in wanted:
            assert await status_of(ports[name], "/metrics") == 200
            assert await status_of(ports[name], "/api/v1/clients") == (200 if name == "admin" else 404)


async def test_port_that_is_taken_stops_the_start_and_leaves_none_open() -> None:
    async with started(app_of(metrics=AdminHttp(0))) as other:
        free = free_port()
        operation = Operation(app_of(admin=AdminHttp(free), metrics=AdminHttp(other.metrics_port)))
        with pytest.raises(ListenError):
            operation.open()
        async with started(app_of(admin=AdminHttp(free))) as again:
            assert again.admin_port == free


async def test_socket_of_the_process_before_is_taken_over() -> None:
    async with started(app_of(admin=AdminHttp(0))) as before:
        (sock,) = before.sockets()
        number = before.admin_port
        app = app_of(admin=AdminHttp(number))
        app.inherited = Inherited([sock])
        operation = Operation(app)
        operation.open()
        assert (operation.admin_port, app.inherited.close()) == (number, [])
        operation.close()


async def adopt(operation: Operation, app: Any, **settings: Any) -> list[Gateway]:
    """As a reload does; the gateways that were opened for it."""
    opened: list[Gateway] = []

    def open_gateway(nursery: trio.Nursery) -> Gateway:
        opened.append(gateway_of(app))
        return opened[0]

    config = evolve(app.config, **settings)
    ports = operation.opened_for(config)
    app.config = config
    operation.adopt(ports, open_gateway)
    await trio.testing.wait_all_tasks_blocked()
    return opened


@pytest.mark.parametrize("name", ["admin", "metrics"])
async def test_reload_opens_keeps_moves_and_closes_a_port(name: str) -> None:
    app = app_of()
    async with started(app) as operation:

        def number() -> int:
            return operation.admin_port if name == "admin" else operation.metrics_port

        opened = await adopt(operation, app, **{name: AdminHttp(0)})
        assert len(opened) == (name == "admin")
        first = number()
        assert await status_of(first, "/metrics") == 200
        await adopt(operation, app, **{name: AdminHttp(0, token="secret")})
        assert number() == first
        assert await status_of(first, "/metrics") == 401
        assert await status_of(first, "/metrics", "secret") == 200
        moved = free_port()
        assert await adopt(operation, app, **{name: AdminHttp(moved)}) == []
        assert (number(), await status_of(moved, "/metrics"), await status_of(first, "/metrics")) == (
            moved,
            200,
            None,
        )
        await adopt(operation, app, **{name: None})
        assert (number(), await status_of(moved, "/metrics")) == (0, None)


async def test_reload_that_can_not_have_one_port_leaves_both_as_they_are() -> None:
    async with started(app_of(metrics=AdminHttp(0))) as other:
        app = app_of(admin=AdminHttp(0), metrics=AdminHttp(0))
        async with started(app) as operation:
            before, free = (operation.admin_port, operation.metrics_port), free_port()
            taken = AdminHttp(other.metrics_port)
            for admin in (app.config.admin, AdminHttp(free)):
                with pytest.raises(ListenError):
                    operation.opened_for(evolve(app.config, admin=admin, metrics=taken))
            assert (operation.admin_port, operation.metrics_port) == before
            assert [await status_of(port, "/metrics") for port in (*before, free)] == [200, 200, None]


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("/metrics", 200, 401),
        ("/api/v1/clients", 200, 401),
        ("/", 200, 200),
        ("/readyz", 200, 200),
        ("/nothing", 404, 401),
    ],
)
async def test_administration_is_there_for_whoever_may(path: str, right: int, wrong: int) -> None:
    async with started(app_of(admin=AdminHttp(0))) as operation:
        assert await status_of(operation.admin_port, path) == right
    async with started(app_of(admin=AdminHttp(0, token=("secret", "next")))) as operation:
        found = [
            await status_of(operation.admin_port, path, token) for token in ("secret", "next", "wrong", "")
        ]
        assert found == [right, right, wrong, wrong]


class Hears(Receiver):
    """Keeps what is published, and when."""

    def __init__(self) -> None:
        super().__init__(plain=False)
        self.heard: list[tuple[float, bytes, bytes, int, bool]] = []

    def deliver(self, publication: Any, granted: int, retained: bool) -> None:
        self.heard.append(
            (trio.current_time(), publication.topic, publication.payload, publication.qos, publication.retain)
        )


@asynccontextmanager
async def hearing(app: Any) -> AsyncIterator[tuple[Operation, Hears]]:
    hears = Hears()
    app.engine.subscribe(hears, b"$SYS/#", 2)
    async with started(app) as operation:
        operation.facts.sys_changes = lambda: [("$SYS/now", f"{trio.current_time():g}")]  # type: ignore[method-assign]
        yield operation, hears


async def test_news_are_retained_and_come_at_once_and_every_interval(
    autojump_clock: trio.testing.MockClock,
) -> None:
    app = app_of(sys_interval_s=7)
    begun = trio.current_time()
    async with hearing(app) as (_, hears):
        await trio.sleep(20)
    assert [(at - begun, topic, qos, retain) for at, topic, _, qos, retain in hears.heard] == [
        (after_s, b"$SYS/now", SYS_QOS, True) for after_s in (0, 7, 14)
    ]


async def test_interval_that_changes_counts_from_the_change_and_none_is_silence(
    autojump_clock: trio.testing.MockClock,
) -> None:
    app = app_of(sys_interval_s=0)
    begun = trio.current_time()
    async with hearing(app) as (operation, hears):
        for wait_s, interval_s in ((100, 50), (20, 5), (12, 0), (100, 3)):
            await trio.sleep(wait_s)
            app.config = evolve(app.config, sys_interval_s=interval_s)
            operation.sys_interval_changed()
        await trio.sleep(1)
    assert [at - begun for at, *_ in hears.heard] == [100, 120, 125, 130, 232]


async def test_feeds_and_sinks_have_topics_of_their_own(autojump_clock: trio.testing.MockClock) -> None:
    app = app_of(sys_interval_s=5)
    app.feeds = {"shop": FeedStatus("shop")}
    async with hearing(app) as (_, hears):
        await trio.sleep(1)
        first = len(hears.heard)
        assert (b"$SYS/feed/shop/state", b"connecting") in [one[1:3] for one in hears.heard]
        app.feeds["shop"].enter("live")
        await trio.sleep(5)
        assert [one[1:3] for one in hears.heard[first:]] == [
            (b"$SYS/now", hears.heard[first][2]),
            (b"$SYS/feed/shop/state", b"live"),
        ]
