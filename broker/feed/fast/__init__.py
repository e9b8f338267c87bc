"""The answers of `routing` in one walk over the bytes of a row, for rows like those before them.

Pure, compiled by mypyc, held equal to `routing` by tests.  Begin with `notified` (JSON text of a notification) or
`columns` (tuples of the replication stream).
"""
