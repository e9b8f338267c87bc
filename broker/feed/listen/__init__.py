"""The feed of kind `listen`: notifications that existing triggers send, and what was missed, read again by key.

Begin with `feed`.  Imports what the feeds share, `driver`, `routing` and `fast`, and no other kind.
"""
