"""The processes. One file a worker, each the whole story of one use case; the columns meet only here."""
