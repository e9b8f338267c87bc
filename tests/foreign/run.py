"""Test suites of MQTT brokers that others wrote, played to Rowcast: `make foreign`.

Nothing of them is kept here.  What is played is downloaded into a temporary folder:

- Mosquitto's own tests of its broker, from Debian's source package: each is a program that starts a broker and compares
  bytes.  Those of bridges, plugins and TLS (whose certificates have expired) are left out.
- paho-mqtt's tests of MQTT 5.0, from its source distribution, with Rowcast in the place of their test broker.

`EXPECTED` says which of them fail and why; one that fails and is not listed, or is listed and passes, fails the run.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from foreign.expected import EXPECTED

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("rowcast")
TEST_WITHIN_S = 900
FIRST_PORT = 23_400
PORTS_EACH = 20
LEFT_OUT = ("06-bridge", "08-", "09-plugin", "09-extended", "14-dynsec")


def mosquitto_sources(folder: Path) -> Path:
    """Debian's source package of mosquitto, unpacked; the folder of its tests."""
    lists = folder / "apt"
    (lists / "lists" / "partial").mkdir(parents=True)
    (lists / "parts").mkdir()
    for source in Path("/etc/apt/sources.list.d").glob("debian.sources"):
        text = re.sub(r"(?m)^Types:.*$", "Types: deb-src", source.read_text())
        (lists / "parts" / source.name).write_text(text)
    options = [
        *("-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={lists / 'parts'}"),
        *("-o", f"Dir::State::Lists={lists / 'lists'}", "-o", f"Dir::Cache={lists}"),
    ]
    subprocess.run(["apt-get", "-qq", *options, "update"], check=True)
    subprocess.run(
        ["apt-get", "-qq", *options, "source", "--download-only", "mosquitto"], cwd=folder, check=True
    )
    (archive,) = folder.glob("mosquitto_*.orig.tar.*")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (tree,) = (path for path in folder.glob("mosquitto-*") if path.is_dir())
    return tree


def prepare(tree: Path) -> Path:
    """Put Rowcast where the tests start Mosquitto, and wait longer for it; the folder to run them in."""
    started = tree / "src" / "mosquitto"
    started.write_text((HERE / "as_mosquitto.py").read_text())
    started.chmod(0o755)
    shared = tree / "test" / "mosq_test.py"
    text = shared.read_text().replace("for i in range(0, 20):", "for i in range(0, 300):")
    shared.write_text(text + (HERE / "connack.txt").read_text())
    return tree / "test" / "broker"


def listed(folder: Path, words: list[str]) -> list[tuple[int, str]]:
    """The tests of the suite: how many ports each takes, and its file."""
    found = re.findall(r"^\s*\((\d+),\s*'\./([^']+)'\)", (folder / "test.py").read_text(), re.MULTILINE)
    return [
        (int(ports), name)
        for ports, name in found
        if not name.startswith(LEFT_OUT) and (folder / name).exists() and all(word in name for word in words)
    ]


def play(folder: Path, name: str, ports: list[int]) -> str:
    """What a test says if it fails; "" if it passes."""
    environment = {**os.environ, "ROWCAST": str(PROGRAM)}
    with subprocess.Popen(
        [sys.executable, name, *map(str, ports)], cwd=folder, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as test:  # fmt: skip
        try:
            said, _ = test.communicate(timeout=TEST_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(test.pid, signal.SIGKILL)
            return f"no end within {TEST_WITHIN_S} s"
    return "" if test.returncode == 0 else said or "failed"


def play_mosquitto(folder: Path, words: list[str], jobs: int) -> dict[str, str]:
    """Each test of Mosquitto's, and what it says if it fails."""
    tests = prepare(mosquitto_sources(folder))
    bases: Queue[int] = Queue()
    for job in range(jobs):
        bases.put(FIRST_PORT + job * PORTS_EACH)

    def one(test: tuple[int, str]) -> tuple[str, str]:
        base = bases.get()
        try:
            said = play(tests, test[1], list(range(base, base + test[0])))
        finally:
            bases.put(base)
        print(f"{'FAILS ' if said else 'passes'} {test[1]}", flush=True)
        return test[1], said

    with ThreadPoolExecutor(jobs) as pool:
        return dict(pool.map(one, listed(tests, words)))


def play_paho(folder: Path, words: list[str]) -> dict[str, str]:
    """Each of paho's tests of MQTT 5.0, and what it says if it fails."""
    import paho.mqtt

    version = paho.mqtt.__version__
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-binary", "paho-mqtt", "--no-deps",
         "-d", folder, f"paho-mqtt=={version}"], check=True,
    )  # fmt: skip
    (archive,) = folder.glob("paho_mqtt-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    suite = folder / f"paho_mqtt-{version}" / "tests" / "test_mqttv5.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=line", "-p", "no:cacheprovider", "-c", os.devnull,
         "-k", " and ".join(words), suite], capture_output=True, text=True,
        env={**os.environ, "ROWCAST": str(PROGRAM), "PYTHONPATH": str(HERE / "paho_broker")}, check=False,
    )  # fmt: skip
    lines = re.findall(r"(?m)^(PASSED|FAILED|ERROR) \S*::(test_\w+)(.*)$", done.stdout)
    if not lines and not words:
        raise SystemExit(done.stdout + done.stderr)
    for verdict, name, _ in lines:
        print(f"{'passes' if verdict == 'PASSED' else 'FAILS '} {name}", flush=True)
    return {name: "" if verdict == "PASSED" else verdict + why for verdict, name, why in lines}


def main() -> int:
    """The exit status: 1 if a verdict is another than `EXPECTED` says."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Example: make foreign ARGS=will"
    )
    parser.add_argument("words", nargs="*", help="only tests whose name contains all of these")
    parser.add_argument("--jobs", type=int, default=2, help="of Mosquitto's tests at the same time (2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        verdicts = play_paho(folder, options.words) | play_mosquitto(folder, options.words, options.jobs)
    wrong = 0
    for test, said in verdicts.items():
        if bool(said) != (test in EXPECTED):
            wrong += 1
            print(f"\n{test}: {'fails' if said else 'passes, and is said to fail'}\n{said[-3000:]}")
    failed = sum(1 for said in verdicts.values() if said)
    print(f"{len(verdicts)} tests: {failed} fail, {wrong} of all not as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
