"""The loads: each opens its clients, runs one closed loop for a while, and returns a `Measurement`."""
