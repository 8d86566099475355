"""A worker's compute child: the process that holds JAX and nothing else (no network, no credentials)."""
