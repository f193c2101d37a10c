"""Services: processes beside the hub, each with a token of its own and the least scopes."""
