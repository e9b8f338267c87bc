from __future__ import annotations

import importlib.machinery
import pathlib

import pytest

from broker import version


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([], "interpreted (installed without a C compiler, or with ROWCAST_COMPILE=0)"),
        (["broker/market/numbers"], "compiled (1 module)"),
        (["broker/core/engine", "broker/outlet", "protocol/mqtt/codec"], "compiled (3 modules)"),
    ],
)
def test_an_installation_says_how_much_of_it_is_compiled(
    modules: list[str], said: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("broker/version", "broker/core/sessions", "protocol/words", *modules):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{path}.py").touch()
    for path in modules:
        (tmp_path / f"{path}{importlib.machinery.EXTENSION_SUFFIXES[0]}").touch()
    monkeypatch.setattr(version, "__file__", str(tmp_path / "broker/version.py"))
    assert f", {said}, Python" in version.describe()
