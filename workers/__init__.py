"""The processes. One file a worker, each the whole story of one use case; the columns meet only here."""

# Each in a module of its own, loaded only in its own process: a voter has no use for the graph's driver.
KINDS = ("training", "inference", "shadow", "tally", "recorder")
