"""What people and monitors see of a cluster, from any of its nodes."""

from __future__ import annotations

import json

import pytest
import trio
from attrs import evolve
from support.nats import Server
from support.nodes import Client, joined, node_of
from support.polling import until

from broker import Config
from broker.cli.main import main
from broker.cluster.status import SILENT_S, ClusterStatus
from broker.config.model import AdminHttp
from broker.reports.cluster_metrics import cluster_families


async def test_each_node_knows_of_all(
    nats_server: Server, cluster_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = (nats_server.url,)
    config = evolve(Config(), admin=AdminHttp(0))
    async with joined(urls, cluster_name, "a", config) as a, joined(urls, cluster_name, "b") as b:
        client = Client(b)
        await client.connect(b"c", False)
        await client.publish(b"t", b"")
        with trio.fail_after(60):
            while True:
                nodes = {one["node"]: one for one in node_of(a).report()["nodes"]}
                if len(nodes) == 2 and nodes["b"]["clients"] == 1 and not nodes["b"]["behind"]:
                    break
                await trio.sleep(0.1)
        assert nodes["b"]["sessions"] == 1
        assert nodes["a"]["here"]
        assert not nodes["b"]["here"]
        url = f"http://127.0.0.1:{a.app.admin_port}"
        words = ["cluster", "status", "--url", url]
        assert await trio.to_thread.run_sync(main, words) == 0
        shown = capsys.readouterr().out
        assert cluster_name in shown
        assert "a *" in shown
        assert await trio.to_thread.run_sync(main, [*words, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["nodes"]) == 2
        shown_numbers = {
            family.name: family.samples[0][1] for family in cluster_families(b.app.operation.facts)
        }
        assert shown_numbers["rowcast_cluster_claimed"] == 1
        assert shown_numbers["rowcast_cluster_published"] == 1


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_node_that_was_replaced_is_not_missed(
    nats_server: Server, cluster_name: str, crashes: bool
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a:
        node = node_of(a)

        def known(silent_s: float = 0.0) -> list[str]:
            for mark, (heard, said) in node.status.nodes.items():
                node.status.nodes[mark] = (heard - silent_s, said)
            return [one["node"] for one in node.report()["nodes"]]

        async with joined(urls, cluster_name, "b", crashes=crashes):
            await until(lambda: known() == ["a", "b"], 60)
        await until(lambda: known() == (["a", "b"] if crashes else ["a"]), 60)
        assert known(SILENT_S) == (["a", "b"] if crashes else ["a"])
        async with joined(urls, cluster_name, "b") as b:
            await until(lambda: node_of(b).mark.decode() in node.status.nodes, 60)
            assert known() == ["a", "b"]
            assert all(one["heard_s"] < SILENT_S for one in node.report()["nodes"])


async def test_without_a_cluster_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from broker import Broker

    async with Broker(evolve(Config(), admin=AdminHttp(0))) as broker:
        url = f"http://127.0.0.1:{broker.app.admin_port}"
        assert await trio.to_thread.run_sync(main, ["cluster", "status", "--url", url]) == 1
        assert "no [cluster]" in capsys.readouterr().err


def test_why_a_node_is_not_ready_is_all_that_is_known_of_it() -> None:
    """That no quorum takes anything is often what comes of the other."""
    status = ClusterStatus()
    status.problem, status.log_problem = "", "the streams are not ready: no space"
    status.quorum_problem = "no quorum has taken anything for 9 s"
    both = "cluster: the streams are not ready: no space; no quorum has taken anything for 9 s"
    assert status.unready() == [both]
    status.problem = "the connection was lost"
    assert status.unready() == ["cluster: the connection was lost"]
    status.problem = status.log_problem = status.quorum_problem = ""
    assert status.unready() == []
