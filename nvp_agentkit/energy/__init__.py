"""Joules: a meter with bounds, a rule that stops in time, a ledger that never overruns.

Nothing is re-exported: the compute child imports `budget` and `meter` and must not load redis.
"""
