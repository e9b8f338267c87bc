"""The JSON protocols that WebSocket clients speak, a file for each.  Begin with `base`."""
