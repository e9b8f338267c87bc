"""Connections of clients.  `pump` serves all plain sockets in one task; `server` knows every link.

Imports `core`, `gateway` and `config`.  `listening` is how a connection begins, `mqtt` and `websocket` what it speaks.
"""
