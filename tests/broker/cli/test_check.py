"""`rowcast check` finds what would fail, or would never work, before it is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli.main import main

GOOD = """
[[listener]]
port = 1883
[security]
allow_anonymous = true
"""


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
            ["Error: persistence_location FOLDER/nowhere is no folder"],
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
            ["Error: log_dest file nowhere/log: there is no folder nowhere"],
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
    assert line.startswith("Error: nobody can ever connect: ")


def test_two_listeners_of_a_mosquitto_conf_on_one_port_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = "allow_anonymous true\nlistener 1883\nlistener 1883 127.0.0.1\n"
    (line,) = check(tmp_path, conf, capsys, "mosquitto.conf")
    assert line == (
        "Error: listener 1883 127.0.0.1 wants port 1883, which listener 1883 has already. Choose another port."
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
