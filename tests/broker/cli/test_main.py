"""The command line: exit status and streams, as a script that starts `mosquitto` expects them."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli.main import main


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["-h"], 0, "Usage: rowcast [-c config_file]", ""),
        (["--help"], 0, "--tls-keylog", ""),
        (["--version"], 0, "rowcast", ""),
        (["--unknown"], 3, "Usage: rowcast", "Error: Unknown option '--unknown'."),
        (["chek", "-c", "good.conf"], 3, "", "There is no command 'chek'. Did you mean `rowcast check`?"),
        (["nonsense"], 3, "", "There is no command 'nonsense'. There are check, cluster, ctl,"),
        (["-p"], 3, "", "Error: -p argument given, but no port specified."),
        (["-p", "0"], 3, "", "Error: Invalid port specified (0)."),
        (["-c"], 3, "", "Error: -c argument given, but no config file specified."),
        (["-c", "nowhere.conf"], 3, "", "Error: Unable to open config file 'nowhere.conf'."),
        (["-c", "bad.conf"], 3, "", "Error: Unknown configuration variable 'nonsense'. Found at bad.conf:2."),
        (["--test-config", "-c", "bad.conf"], 3, "", "Found at bad.conf:2."),
        (["--test-config", "-c", "good.conf"], 0, "Configuration file is OK.", ""),
        (["check", "-c", "good.conf"], 0, "good.conf is fine: 1 listener, 0 feeds", ""),
        (["check", "-c", "bad.conf"], 3, "", "Found at bad.conf:2."),
        (["check", "-c", "files.conf"], 3, "", "3 mistakes in files.conf"),
        (["--test-config"], 3, "", "Please provide a configuration file to test."),
    ],
)
def test_exit_status_and_streams(
    words: list[str],
    status: int,
    out: str,
    err: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.conf").write_text("listener 1883\nallow_anonymous true\n")
    Path("bad.conf").write_text("listener 1883\nnonsense 1\n")
    Path("files.conf").write_text(
        "listener 1883\npassword_file nowhere\nacl_file nowhere\ncertfile nowhere\nkeyfile nowhere\n"
    )
    assert main(words) == status
    shown = capsys.readouterr()
    assert out in shown.out
    assert err in shown.err
    assert bool(out) == bool(shown.out)
    assert bool(err) == bool(shown.err)
