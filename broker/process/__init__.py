"""What a process of its own does around the broker: signals, log, background, privileges, several processes.

Begin with `run`; `reloading` obeys SIGHUP, `logs` is the log, `workers` the parent of several processes.  An embedded
broker (`broker.embed`) needs none of it.  It stands on top, and may import everything but the demo.
"""
