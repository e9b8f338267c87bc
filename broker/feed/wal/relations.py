"""Tables as the replication stream describes them: a changed row to its table's name and its JSON.  Pure."""

from __future__ import annotations

from typing import Any, Final

from broker.feed.routing.rowtext import value_of
from protocol import pgjson
from protocol.pgjson import Catalog, Render, RowRenderer, TypeEntry
from protocol.pgoutput import DELETE, INSERT, KEY, UNCHANGED, UPDATE, WHOLE, Columns, Relation, RowChange

OPERATION_OF: Final = {INSERT: "insert", UPDATE: "update", DELETE: "delete"}
FIRST_USER_OID: Final = 16384


class RowColumns(dict[str, Any]):
    """A row's columns by name, each made when somebody asks for it: as `broker.feed.routing.rowtext.Columns`."""

    __slots__ = ("_renders", "_values")

    def __init__(self, renders: dict[str, tuple[int, Render]], values: Columns) -> None:
        self._renders = renders
        self._values = values

    def __missing__(self, name: str) -> Any:
        place, render = self._renders[name]
        value = self._values[place]
        if value is None:
            column: Any = None
        elif value == UNCHANGED:
            raise KeyError(name)
        elif render is pgjson.number or render is pgjson.escape:
            column = value.decode(errors="surrogateescape")
        elif render is pgjson.boolean:
            column = value == b"t"
        else:
            column = value_of(render(value).decode(errors="surrogateescape"))
        self[name] = column
        return column


def full_name(relation: Relation) -> str:
    """As configurations have it."""
    return f"{relation.namespace}.{relation.name}"


class Table:
    """One table's rows to JSON, in the columns and types that hold for the rows that follow.

    Args:
        name: what the routes call it, if it had another name when the rows were written.
    """

    def __init__(self, relation: Relation, catalog: Catalog, name: str = "") -> None:
        self.name = name or full_name(relation)
        self.columns = renders = [(c.name, pgjson.renderer(c.type_oid, catalog)) for c in relation.columns]
        places = {name: (place, render) for place, (name, render) in enumerate(renders)}
        self._row = RowRenderer(renders)
        self._places = places
        self._key_places = [place for place, column in enumerate(relation.columns) if column.key]
        self._key = RowRenderer([renders[place] for place in self._key_places])
        self._keys = {renders[place][0]: places[renders[place][0]] for place in self._key_places}

    def render(self, change: RowChange) -> tuple[bytes, RowColumns]:
        """The row that the change left behind; for a delete the row that was, or its key if that is all we got.

        A TOAST value that an update did not touch is taken from the old row (REPLICA IDENTITY FULL), or absent.
        """
        if change.new is not None:
            new = change.new
            if change.old_kind == WHOLE and change.old is not None and UNCHANGED in new:
                new = [o if n == UNCHANGED else n for n, o in zip(new, change.old, strict=True)]
            return self._row.render(new, UNCHANGED), RowColumns(self._places, new)
        old: Columns = change.old or []
        if change.old_kind == KEY:
            text = self._key.render([old[place] for place in self._key_places], UNCHANGED)
            return text, RowColumns(self._keys, old)
        return self._row.render(old, UNCHANGED), RowColumns(self._places, old)


class Relations:
    """The tables that one connection has described so far, and the types they are made of."""

    def __init__(self) -> None:
        self._tables: dict[int, Table] = {}
        self._catalog: dict[int, TypeEntry] = {}

    def unknown_types(self, relation: Relation) -> list[int]:
        """Types to be looked up before `learn`."""
        return [c.type_oid for c in relation.columns if not self._is_known(c.type_oid)]

    @property
    def own_types(self) -> Catalog:
        """What is known of the types that somebody may alter; the server describes no table anew then."""
        return {oid: entry for oid, entry in self._catalog.items() if oid >= FIRST_USER_OID}

    def learn(self, relation: Relation, found: Catalog, name: str = "") -> Table:
        """Use this description from now on; `found` is what the catalog says about its unknown types."""
        self._catalog.update(found)
        table = self._tables[relation.oid] = Table(relation, self._catalog, name)
        return table

    def knows(self, oid: int) -> bool:
        """Whether the server has described this table."""
        return oid in self._tables

    def table(self, oid: int) -> Table:
        """What the server said of this table last."""
        return self._tables[oid]

    def _is_known(self, oid: int) -> bool:
        # User-defined types are looked up each time: a composite type may have got a column meanwhile.
        return oid in pgjson.SCALARS or (oid < FIRST_USER_OID and oid in self._catalog)
