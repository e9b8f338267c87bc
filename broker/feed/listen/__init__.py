"""The feed of kind `listen`: notifications that existing triggers send, and what was missed, read again by key.

Begin with `feed`.
"""
