"""In order. What stands here once released is not changed any more: another file changes it."""
