"""From a listening socket to a connection that may speak: accept, PROXY header, TLS, who the peer is, who may connect.

Begin with `accept`; `door` decides about a CONNECT.  Imports as all of `links`, and knows no WebSocket.
"""
