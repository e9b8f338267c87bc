"""The demo in the words of one WebSocket dialect: its tables, what happens in them, who reads.  Begin with `run`."""
