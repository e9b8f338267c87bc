"""An hour of everything at once: does memory grow, and is everybody given exactly what is theirs?

Begin with `__main__`, the command; `world` is the broker with all that it is asked for, `load` what happens in each
tick.
"""
