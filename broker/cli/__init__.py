"""The command line: what was typed, to what is run.  Begin with `main`; a module for each command.

May import everything.  Only `broker.process` imports it, for exit statuses and what a reload checks.
"""
