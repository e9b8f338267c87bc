"""Who may connect, and the channels of the WebSocket dialects in the one trie.  Begin with `gateway`."""
