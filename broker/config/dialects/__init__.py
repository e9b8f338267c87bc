"""The dialects that WebSocket clients may speak, a file for each, as `kind.py` describes a kind.

May import `broker.config` and `protocol`.  Begin with `kind`; a new dialect is its machine in `protocol/dialects`, its
kind in a file here, and a line in `gateway.py`.
"""
