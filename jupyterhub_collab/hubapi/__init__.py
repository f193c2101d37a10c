"""The hub's REST API: groups, their properties and members, users."""
