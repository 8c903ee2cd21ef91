"""What runs: application descriptions, the segments they are rolled from, and how one is called.

Nothing here knows about limits, measurements or models. The package needs only the standard library at import time;
each segment imports its own library when it is prepared, so that a packaged action carries no more than it uses.
"""
