"""A worker's compute child: the process that holds JAX and is given no credentials and no store."""
