"""What survives a restart: a file of SQLite, written while the broker runs.

Begin with `keeper`, which says when it is saved; `records` is what is saved, as values, `schema` the tables, `writing`
and `reading` go between them, `journal` is the one writer, `salvage` deals with what the disk has changed.  Imports
`core`, `config` and `protocol`, and of links only the `bell` that a thread rings.
"""
