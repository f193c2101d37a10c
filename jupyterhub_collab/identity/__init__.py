"""Who is asking: the credential that says which server, of whom, in which team."""
