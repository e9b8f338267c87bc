"""Who may connect, and the channels of the WebSocket dialects in the one trie.

`authentication` decides about user names, passwords and certificates (MQTT), with `passwords`, `acl_file` and `tokens`;
`identity` says whose a token of a dialect is; `gateway` is what all clients of the dialects share, `channels` how their
channels are topics.  Imports `core` and `config`, never links.
"""
