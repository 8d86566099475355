"""The stack on one machine without Docker: stores and workers as children that never outlive their parent."""
