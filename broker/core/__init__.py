"""The broker itself: sessions, subscriptions, retained messages, who gets what.  Pure and synchronous.

Imports `protocol` only.  Begin with `engine`.
"""
