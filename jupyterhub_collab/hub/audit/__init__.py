"""What the hub tells the audit log: who logged in, what was changed and by whom, which servers were
started and why they ended.

`installing.install` sets it up; `configure` of the hub calls it.
"""
