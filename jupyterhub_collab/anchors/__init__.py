"""Where the audit log's checkpoints go outside, so that nobody here can quietly change the past.

A folder on another volume, an object store that locks, a sponsor's webhook, e-mail. Each takes
signed heads of the log; those that can hold files take the tree's hashes too.
"""
