"""`rowcast demo --example devices`: devices, a table and a browser.  Begin with `run`."""
