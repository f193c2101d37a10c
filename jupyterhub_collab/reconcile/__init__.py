"""The one engine: what is wanted against what is there -> steps (pure), then carried out.

Nothing here knows what a team is beyond the labels that say whose an object is.
"""
