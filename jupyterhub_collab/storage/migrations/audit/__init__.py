"""Of the audit log."""
