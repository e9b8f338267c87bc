"""Plays scenarios against Mosquitto and against Rowcast and compares what every client saw.

Knows nothing of `broker` and `protocol`: a judge must not share the code of what it judges.
"""
