"""What must outlive a process and be shared by several, in SQL. Rows never leave this package."""
