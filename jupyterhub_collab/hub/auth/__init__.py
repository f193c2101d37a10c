"""Who gets into the hub, and as what: authenticators, and what becomes of access that is lost.

`team_authenticator` is what all authenticators here share: a source lets somebody in and hands over
facts, `managers.membership` decides, the hub's groups are made so. `losing` ends what a member had
of a team they are no longer in; `watching` asks the sources again while nobody is at the door.
"""
