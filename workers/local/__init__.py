"""What `nvp train`, `nvp evaluate` and `nvp export` compute in the caller's own process, without stack or account."""
