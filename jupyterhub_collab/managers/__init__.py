"""Use cases: they decide the order and call I/O."""
