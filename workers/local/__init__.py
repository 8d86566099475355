"""What `nvp train`, `nvp evaluate` and `nvp model export` compute in the caller's process, with no stack."""
