"""The exchange of `rowcast demo`, and the account of what arrives.  Begin with `run`.

Only the command line knows it.  `devices`, `dialects` and `nodes` are the other demos, each with a `run` of its own.
"""
