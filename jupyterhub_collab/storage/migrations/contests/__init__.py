"""Of the team registry."""
