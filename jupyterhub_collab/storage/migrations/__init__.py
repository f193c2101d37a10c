"""How tables came to be what they are, a file a change; alembic reads them."""
