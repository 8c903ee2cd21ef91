"""Where independent work runs: in this process, in several, or on a cluster of Ray; with the same results everywhere.

Enters: a function and items, such as the splits of an experiment. Leaves: what was made of each. Nothing is known here
of what is worked on, and `ray` is imported by one module alone, in a process of its own.
"""
