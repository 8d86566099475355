"""What was made from what, by whom, for how many joules: facts into the graph and questions to it.

Facts are built with `nodes` and `edges` (no driver needed); `graph.Graph` writes them and `queries` asks.
"""
