"""Words: bytes and text to meaning and back, and what a standard says of one peer.

Knows no clock, socket, task or chance, and imports nothing of `broker`.  Begin with `mqtt`.
"""
