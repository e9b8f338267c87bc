"""`rowcast check` finds what would fail, or would never work, before it is started."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from broker.cli.main import main

GOOD = """
[[listener]]
port = 1883
[security]
allow_anonymous = true
"""


def write_certificate(base: Path, days: int) -> None:
    """BASE.crt and BASE.key, good from a month ago for as many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, base.name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    made = made.not_valid_before(now - timedelta(30)).not_valid_after(now + timedelta(days))
    signed = made.public_key(key.public_key()).sign(key, hashes.SHA256())
    base.with_suffix(".crt").write_bytes(signed.public_bytes(Encoding.PEM))
    base.with_suffix(".key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def check(
    folder: Path, text: str, capsys: pytest.CaptureFixture[str], name: str = "rowcast.toml"
) -> list[str]:
    """What it says is wrong, without the file's name; [] is fine."""
    path = folder / name
    path.write_text(text)
    status = main(["check", "-c", str(path)])
    lines = capsys.readouterr().err.replace(str(path), "FILE").replace(str(folder), "FOLDER").splitlines()
    assert status == (3 if lines else 0)
    return lines[:-1]


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("", []),
        ('[logging]\nlog_type = ["eror"]', ["FILE:7: log_type: "]),
        ('[logging]\nlog_type = "all"\nlog_dest = "none"', []),
        ('[logging]\nlog_dest = ["sderr", "file "]', ["FILE:7: log_dest: ", "FILE:7: log_dest: "]),
        ('[logging]\nlog_format = "xml"', ["FILE:7: log_format: "]),
        ("[admin]\nport = 1883", ["FILE:7: port: 1883 is taken by [[listener]] 1"]),
        ("[admin]\nport = 6789\n[metrics]\nport = 6789", ["FILE:9: port: 6789 is taken by [admin]"]),
        ('[admin]\nport = 6789\n[metrics]\nport = 6789\nhost = "127.0.0.2"', []),
        ("[admin]\nport = 70000", ["FILE:7: port: "]),
        ('[admin]\nport = 6789\ntoken = ""', ["FILE:8: token: it is empty"]),
        (
            '[persistence]\npersistence = true\npersistence_location = "nowhere"',
            ["FILE:8: persistence_location FOLDER/nowhere is no folder"],
        ),
        ('[database]\ndsn = ""\n[source.x]\nlisten="x"', ["FILE:7: dsn: it is empty"]),
        (
            '[database]\ndsn = "host=a sslmode=requir"\n[source.x]\nlisten="x"',
            ["FILE:7: dsn: sslmode: disable or"],
        ),
        (
            '[admin]\nport = 6789\ntoken = "file:nowhere"',
            ["FILE:8: token: FOLDER/nowhere can't be read: No such file"],
        ),
        (
            '[logging]\nlog_dest = "file nowhere/log"',
            ["FILE:7: log_dest file nowhere/log: there is no folder nowhere"],
        ),
    ],
)
def test_what_is_wrong_is_found_once_with_its_line(
    more: str, found: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [line for line in check(tmp_path, GOOD + more, capsys) if "no route" not in line]
    assert len(said) == len(found), said
    for line, begin in zip(said, found, strict=True):
        assert line.startswith(begin)


@pytest.mark.parametrize("name", ["rowcast.toml", "mosquitto.conf"])
def test_a_door_that_nobody_can_pass_is_found(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = {"rowcast.toml": "[[listener]]\nport = 1883\n", "mosquitto.conf": "listener 1883\n"}[name]
    (line,) = check(tmp_path, closed, capsys, name)
    begin = "FILE:1: " if name.endswith("toml") else "Error: "
    assert line.startswith(f"{begin}nobody can ever connect: ")
    assert ("`allow_anonymous = true` in [security]" in line) is name.endswith(".toml")


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("max_conections 5", ["Unknown configuration variable", "nobody can ever connect"]),
        ("allow_anonymus true", ["Unknown configuration variable"]),
        ("allow_anonymous yes", ["Invalid 'allow_anonymous' value"]),
        ("include_dir nowhere", ["Unable to open include_dir"]),
        ("persistence_location nowhere\nlogtype all", ["Unknown", "nobody", "no folder"]),
        ("password_file empty", ["nobody can ever connect"]),
        ("password_file nowhere", ["Unable to open pwfile"]),
        ("rowcast_token_secret_file secret", []),
        ("rowcast_token_secret_file empty", ["There is no secret in FOLDER/empty"]),
    ],
)
def test_all_mistakes_of_a_mosquitto_conf_are_told_at_once(
    wrong: str,
    found: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the text and those beyond it; what only follows from another is not told."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("empty", ""), ("secret", "s" * 32 + "\r\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    text = f"listener 1883\npersistence true\n{wrong}\n"
    said = check(tmp_path, text, capsys, "mosquitto.conf")
    assert all(" Found at FILE:" in line for line in said), said
    assert len(said) == len(found), said
    for words in found:
        assert any(words.replace("FOLDER/", "") in line for line in said), (words, said)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (
            '[persistence]\npersistence = true\npersistence_location = "nowhere"\n[limits]\nmax_conections = 5',
            ["FILE:3: nobody can", "FILE:8: persistence_location", "FILE:10: unknown key max_conections"],
        ),
        ("[securty]\nallow_anonymous = true", ["FILE:6: unknown key securty"]),
        ("[security]\nallow_anonymus = true", ["FILE:7: unknown key allow_anonymus"]),
        ("[brokr]\ndrain = 1", ["FILE:3: nobody can", "FILE:6: unknown key brokr"]),
    ],
)
def test_all_mistakes_of_a_toml_are_told_at_once(
    more: str, found: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = check(tmp_path, f'\n\n[[listener]]\nport = 1883\nhost = "localhost"\n{more}', capsys)
    assert [line[: len(begin)] for line, begin in zip(said, found, strict=True)] == found


TLS = GOOD.replace("1883\n", "1883\n[listener.tls]\n{}\n")
SOCKETS = '[[listener]]\nport = 8080\nprotocol = "websockets"\ndialects = {}\n[websocket.rowcast]\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\ufeff" + GOOD, ""),
        (GOOD.replace("\n", "\r\n"), ""),
        ("[listener]\nport = 1", "FILE:1: listener: tables are wanted"),
        (GOOD.replace("1883\n", '1883\nhost = "::1:1883/x"\n'), "FILE:4: host: an address or a name"),
        (GOOD.replace("1883\n", '1883\nhost = "localhost:1883"\n'), "FILE:4: host: an address or a name"),
        (GOOD.replace("1883\n", '1883\nhost = "::1"\n'), ""),
        (GOOD.replace("port = 1883", 'unix_path = "socket"'), ""),
        (GOOD.replace("port = 1883", 'unix_path = "no/socket"'), "FILE:3: unix_path no/socket: there is no"),
        (GOOD.replace("1883\n", '1883\nunix_path = "x"\n'), "FILE:3: port: a unix socket has none"),
        (GOOD + '[[listener]]\nport = 1883\nhost = "127.0.0.1"', "FILE:7: port: 1883 is taken"),
        (GOOD.replace("1883\n", '1883\ncertfile = "x"\n'), "FILE:4: certfile belongs in [listener.tls]"),
        (TLS.format('certfile = "a.crt"\nkeyfile = "b.key"'), "FILE:6: Server certificate/key are incons"),
        (TLS.format('certfile = "."\nkeyfile = "b.key"'), "FILE:5: Unable to load server certificate"),
        (TLS.format('certfile = "b.crt"\nkeyfile = "b.key"'), "FILE:5: The certificate"),
        (
            TLS.format('certfile = "a.crt"\nkeyfile = "a.key"\nrequire_certificate = true'),
            "FILE:7: require_certificate: without cafile",
        ),
        (SOCKETS.format('["mqtt", "rowcast"]') + 'path = "/mqtt"', "FILE:6: path: /mqtt is mqtt's already"),
        (SOCKETS.format('["rowcast"]') + 'path = "ws"', "FILE:6: path: it begins with a slash"),
        (
            SOCKETS.format('["rowcast"]') + '[tokens]\njwks_file = "a.crt"',
            "FILE:7: Unable to use FOLDER/a.crt",
        ),
        (
            SOCKETS.format('["rowcast"]') + '[tokens]\nsecrets = "env:"',
            "FILE:7: secrets: env: needs the name",
        ),
        (
            SOCKETS.format('["rowcast"]') + '[tokens]\nsecrets = "file:"',
            "FILE:7: secrets: file: needs a path",
        ),
        (
            GOOD + '[database]\ndsn = "port=abc"\n[source.x]\nlisten = "x"\n[[mqtt.route]]\nfrom = "x"\n'
            'topics = "x"',
            "FILE:7: dsn: port: 1 to 65535 is wanted, not abc",
        ),
        (
            GOOD + '[database]\ndsn = "host=a"\nkind = "wall"\n[source.x]\ntables = ["x"]\n[[mqtt.route]]\n'
            'from = "x"\ntopics = "{public}"',
            'FILE:8: kind: "listen" or',
        ),
        (
            GOOD + '[database]\ndsn = "host=a"\n[source.x]\nlisten = "x"\n[[mqtt.route]]\nfrom = "y"\n'
            'topics = "x"',
            "FILE:11: from: no source y",
        ),
    ],
)
def test_each_mistake_is_told_once(
    text: str,
    found: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_certificate(tmp_path / "a", days=30)
    write_certificate(tmp_path / "b", days=-1)
    said = check(tmp_path, text, capsys)
    assert len(said) == bool(found), said
    assert "".join(said).startswith(found)


def test_a_secret_that_everybody_may_read_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xef\xbb\xbf" + b"s" * 32 + b"\r\n")
    secret.chmod(0o644)
    path = tmp_path / "rowcast.toml"
    path.write_text(SOCKETS.format('["rowcast"]') + f'[tokens]\nsecrets = "file:{secret}"')
    assert main(["check", "-c", str(path)]) == 0
    cure = f"everybody may read {secret}. Cure: `chmod o-rwx {secret}`."
    assert capsys.readouterr().err == f"Warning: {path}:7: {cure}\n"
    secret.chmod(0o600)
    assert main(["check", "-c", str(path)]) == 0
    assert capsys.readouterr().err == ""


def test_two_listeners_of_a_mosquitto_conf_on_one_port_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = "allow_anonymous true\nlistener 1883\nlistener 1883 127.0.0.1\n"
    (line,) = check(tmp_path, conf, capsys, "mosquitto.conf")
    assert line == (
        "Error: listener 1883 127.0.0.1 wants port 1883, which listener 1883 has already. Choose another port."
        " Found at FILE:3."
    )


def test_tables_by_pattern_are_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        GOOD + '[database]\ndsn = "host=a"\nkind = "wal"\n[source.x]\ntables = ["public.*"]\n'
        '[[mqtt.route]]\nfrom = "x"\ntopics = "x"\n'
    )
    (line,) = check(tmp_path, text, capsys)
    assert line.startswith("FILE:10: tables: public.* is no table")


def test_a_secret_comes_from_a_file_and_there_may_be_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").write_text("n" * 32 + "\n")
    (tmp_path / "short").write_text("short\n")
    for name in ("new", "short"):
        (tmp_path / name).chmod(0o600)
    text = GOOD.replace("1883\n", '1883\nprotocol = "websockets"\ndialects = ["econia"]\n')
    jwt = '[websocket.econia.jwt]\nsecret = ["file:{}", "' + "o" * 32 + '"]\n'
    assert check(tmp_path, text + jwt.format("new"), capsys) == []
    (line,) = check(tmp_path, text + jwt.format("short"), capsys)
    assert "secret: at least 32 bytes are wanted" in line


def test_a_configuration_without_its_option_is_told_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shop.toml"]) == 3
    said = capsys.readouterr()
    assert (
        said.err
        == "Error: Unknown option 'shop.toml'. A configuration is named by -c: rowcast -c shop.toml\n"
    )
    assert said.out == ""


def test_ctrl_c_at_a_prompt_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("getpass.getpass", interrupted)
    assert main(["passwd", "-c", str(tmp_path / "passwords"), "ada"]) == 130
    assert "Traceback" not in capsys.readouterr().err
