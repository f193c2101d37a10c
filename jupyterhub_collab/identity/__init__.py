"""Who is asking: credentials of servers; what providers and portals say about people."""
