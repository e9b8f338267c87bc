"""The JSON protocols that WebSocket clients speak, a file for each: texts in, commands out.  No socket, no clock.

Begin with `base`, which says what a dialect is.  A dialect's settings, path and logins are its kind in
`broker.config.dialects`.
"""
