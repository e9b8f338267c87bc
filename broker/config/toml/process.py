"""[logging], [admin], [metrics], [persistence] and [health] of a TOML configuration: the process, not its clients."""

from __future__ import annotations

from typing import Final

from broker.config.addresses import overlap
from broker.config.model import AdminHttp, Listener, Logging
from broker.config.toml.checks import check_choice
from broker.config.toml.document import Document
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader
from protocol.port import PORT_MAX

LOG_TYPES: Final = (
    "error", "warning", "notice", "information", "subscribe", "unsubscribe", "websockets", "debug", "internal",
)  # fmt: skip
LOG_PLACES: Final = ("stdout", "stderr", "syslog", "topic", "none")
FORMATS: Final = ("text", "json")
ISO_8601: Final = "%Y-%m-%dT%H:%M:%S%z"
FACILITY_MAX: Final = 7


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
    reader: Reader,
    listeners: tuple[Listener, ...],
    admin: AdminHttp | None,
    metrics: AdminHttp | None,
    workers: int,
) -> None:
    """No two of our own ports may be the same; those of two listeners are compared elsewhere.

    Args:
        workers: how many processes there are: of [admin] and [metrics] each has the next port.
    """
    taken: list[tuple[str, str | None, range]] = [
        (f"[[listener]] {number}", one.host, range(one.port, one.port + 1))
        for number, one in enumerate(listeners, 1)
        if one.port and one.unix_path is None
    ]
    for name, http in (("admin", admin), ("metrics", metrics)):
        if http is None or not http.port:
            continue
        path: Path = (name, "port")
        wanted = range(http.port, http.port + max(workers, 1))
        several = (
            f"with {workers} workers it takes {wanted[0]} to {wanted[-1]}, and " if len(wanted) > 1 else ""
        )
        if several and wanted[0] <= PORT_MAX < wanted[-1]:
            reader.wrong(path, f"port: {several}{PORT_MAX} is the last there is: choose another")
        for other, host, ports in taken:
            both = range(max(wanted[0], ports[0]), min(wanted[-1], ports[-1]) + 1)
            if both and overlap(host, http.host):
                reader.wrong(path, f"port: {several}{both[0]} is taken by {other}: choose another")
                break
        taken.append((f"[{name}]", http.host, wanted))
