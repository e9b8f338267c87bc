"""[logging], [admin], [metrics], [persistence] and [health] of a TOML configuration: the process, not its clients."""

from __future__ import annotations

from typing import Final

from broker.config.addresses import overlap
from broker.config.model import AdminHttp, Listener, Logging
from broker.config.toml.checks import check_choice
from broker.config.toml.document import Document
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader

LOG_TYPES: Final = (
    "error", "warning", "notice", "information", "subscribe", "unsubscribe", "websockets", "debug", "internal",
)  # fmt: skip
LOG_PLACES: Final = ("stdout", "stderr", "syslog", "topic", "none")
FORMATS: Final = ("text", "json")
ISO_8601: Final = "%Y-%m-%dT%H:%M:%S%z"
FACILITY_MAX: Final = 7
PORT_MAX: Final = 65535


def logging_of(reader: Reader, document: Document) -> Logging:
    """[logging]; its times are ISO 8601 where nothing else is asked for."""
    table = document.get("logging", {})
    if isinstance(table, dict):
        table = {"log_timestamp_format": ISO_8601, **table}
        if table.get("log_type") == "all":
            table["log_type"] = list(LOG_TYPES)
        if table.get("log_type") == "none":
            table["log_type"] = []
    found = reader.structure(table, Logging, ("logging",)) or Logging()
    for index, name in enumerate(found.log_type):
        check_choice(reader, ("logging", "log_type", index), name, LOG_TYPES)
    for index, place in enumerate(found.log_dest):
        if not (place.startswith("file ") and place.removeprefix("file ").strip()):
            check_choice(reader, ("logging", "log_dest", index), place, (*LOG_PLACES, "file PATH"))
    check_choice(reader, ("logging", "log_format"), found.log_format, FORMATS)
    if found.log_facility is not None and not 0 <= found.log_facility <= FACILITY_MAX:
        what = f"log_facility: 0 to {FACILITY_MAX} (local0 to local7) is wanted, not {found.log_facility}"
        reader.wrong(("logging", "log_facility"), what)
    return found


def http_of(reader: Reader, document: Document, name: str) -> AdminHttp | None:
    """[admin] or [metrics]; None without."""
    if name not in document:
        return None
    found = reader.structure(document[name], AdminHttp, (name,))
    if found is not None:
        if not 0 <= found.port <= PORT_MAX:
            what = f"port: 0 (any free one) to {PORT_MAX} is wanted, not {found.port}"
            reader.wrong((name, "port"), what)
        if any(not token for token in found.token):
            reader.wrong(
                (name, "token"), "token: it is empty, which would let everybody in: leave the line out"
            )
    return found


def check_ports(
    reader: Reader, listeners: tuple[Listener, ...], admin: AdminHttp | None, metrics: AdminHttp | None
) -> None:
    """No two of the process's own ports may be the same; those of two listeners are compared elsewhere."""
    taken: list[tuple[str, str | None, int]] = [
        (f"[[listener]] {number}", one.host, one.port)
        for number, one in enumerate(listeners, 1)
        if one.port and one.unix_path is None
    ]
    for name, http in (("admin", admin), ("metrics", metrics)):
        if http is None or not http.port:
            continue
        for other, host, port in taken:
            if port == http.port and overlap(host, http.host):
                path: Path = (name, "port")
                reader.wrong(path, f"port: {port} is taken by {other}: choose another")
                break
        taken.append((f"[{name}]", http.host, http.port))
