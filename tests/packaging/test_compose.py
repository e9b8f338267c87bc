"""What compose.yaml says, done without a container engine: names, users, rights, volumes, commands.

Rowcast runs in a root that is empty but for the system's programs and itself, and is mounted read-only; Postgres is
this machine's.  As root, with unshare.  That the image can be built is `test_container`'s.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres import binaries

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "compose.yaml").read_text()

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for chroot"),
    pytest.mark.skipif(
        not all(shutil.which(tool) for tool in ("unshare", "chroot", "setpriv", "ip")),
        reason="needs util-linux",
    ),
]
APART = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Nothing of it outlives the test."""

SUBSCRIBER = """
from paho.mqtt import client as paho
client = paho.Client(paho.CallbackAPIVersion.VERSION2)
client.on_subscribe = lambda *_: print("subscribed", flush=True)
client.on_message = lambda client, _, message: (
    print(message.topic, message.payload.decode(), flush=True), client.disconnect()
)
client.connect("127.0.0.1", 1883)
client.subscribe("hello/#", 1)
client.loop_forever()
"""
SCRIPT = """
fail() { echo "$*"; cat postgres.log log heard 2>/dev/null; exit 1; }
wait_for() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; fail "never: $*"; }
as_postgres() { PATH=$PROGRAMS:$PATH runuser -u postgres -- "$@"; }
ip link set lo up || exit 77
mount -t tmpfs tmpfs root || exit 77
chmod 755 root
mkdir -p root/etc/rowcast root/var/lib/rowcast root/dev
for name in /bin /sbin /lib /lib64; do [ ! -L $name ] || cp -P $name root/; done
mkdir -p root/tmp && mount -t tmpfs -o mode=1777 tmpfs root/tmp
for name in $SHARED; do mkdir -p root$name; mount --bind $name root$name; done
cp /etc/passwd /etc/group root/etc/
cp $CONFIGURATION root/etc/rowcast/rowcast.toml
echo "127.0.0.1 postgres localhost" >root/etc/hosts
mknod -m 666 root/dev/null c 1 3
mount -t tmpfs -o uid=1883,gid=1883 tmpfs root/var/lib/rowcast
mount -o remount,ro root

as_postgres initdb --no-sync -U postgres -D $PWD/data --auth-local=trust --auth-host=scram-sha-256 \\
    --pwfile=password >initdb.log 2>&1 || fail "$(cat initdb.log)"
as_postgres postgres -D $PWD/data -k $PWD/data $SERVER >postgres.log 2>&1 &
wait_for as_postgres $IS_WELL -h $PWD/data
DATABASE_URL=$URL chroot root setpriv --reuid=1883 --regid=1883 --clear-groups --bounding-set=-all --inh-caps=-all \\
    --no-new-privs $ROWCAST -c /etc/rowcast/rowcast.toml 2>log &
rowcast=$!
wait_for $ROWCAST ctl --url http://127.0.0.1:6789 status
$PYTHON subscriber.py >heard 2>&1 &
subscriber=$!
wait_for grep -q subscribed heard
as_postgres psql -q -h $PWD/data -U postgres -f example.sql >/dev/null || fail "psql"
wait $subscriber
cat heard
grep -E "^(Uid|CapEff|CapBnd|NoNewPrivs):" /proc/$rowcast/status
kill -TERM $rowcast
wait $rowcast
echo "rowcast ended with $?"
as_postgres pg_ctl stop -m fast -D $PWD/data >/dev/null
"""


def said(pattern: str) -> str:
    """What compose.yaml says there."""
    found = re.findall(pattern, COMPOSE)
    assert found, pattern
    return str(found[0])


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that Postgres' account may enter, as it may not pytest's."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_compose_brings_both_up_and_its_example_gets_through(folder: Path) -> None:
    for line in (
        "read_only: true",
        "cap_drop: [ALL]",
        "no-new-privileges:true",
        "- rowcast:/var/lib/rowcast",
    ):
        assert line in COMPOSE
    (folder / "root").mkdir()
    (folder / "subscriber.py").write_text(SUBSCRIBER)
    (folder / "example.sql").write_text(said(r'psql -U postgres -c "(.+)"').replace('\\"', '"'))
    (folder / "password").write_text("only-for-trying\n")
    shutil.chown(folder, "postgres")
    prefixes = {Path(sys.base_prefix), Path(sys.prefix), ROOT}
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PROGRAMS": str(binaries()),
        "SHARED": " ".join(["/usr", *sorted(str(one) for one in prefixes if not one.is_relative_to("/usr"))]),
        "ROWCAST": f"{sys.executable} -m broker",
        "CONFIGURATION": str(ROOT / said(r"- \./(\S+):/etc/rowcast/rowcast\.toml:ro")),
        "URL": re.sub(r"\$\{\w+:-(.+?)\}", r"\1", said(r"DATABASE_URL: (\S+)")),
        "SERVER": said(r"command: postgres (.+)"),
        "IS_WELL": shlex.join(json.loads(said(r"healthcheck:\n +test: (\[.+\])"))[1:]),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["unshare", *APART, "sh", "-c", SCRIPT],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=380,
    )
    if done.returncode == 77:
        pytest.skip(f"may not mount: {done.stderr}")
    told = done.stdout + done.stderr
    assert 'hello/hi {"text": "hi"}' in done.stdout, told
    assert "Uid:\t1883\t1883" in done.stdout, told
    assert "CapBnd:\t0000000000000000" in done.stdout, told
    assert "CapEff:\t0000000000000000" in done.stdout, told
    assert "NoNewPrivs:\t1" in done.stdout, told
    assert "rowcast ended with 0" in done.stdout, told
