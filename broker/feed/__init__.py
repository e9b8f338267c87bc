"""Rows from Postgres: one package per kind of feed, and what they share.

Imports `core`, `gateway` and `config`, never links.  Begin with `kinds` and `supervise`, then the
kind's `feed` module.
"""
