"""What a configuration says, as values, and how each format is read into them.  Imports nothing else of the broker.

Begin with `model` and `feeds`.
"""
