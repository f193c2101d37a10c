"""The manual, as HTML: make docs."""

project = "jupyterhub-collab"
copyright = "2026, the jupyterhub-collab maintainers"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "jupyterhub-collab"
myst_heading_anchors = 3
exclude_patterns = ["_build", "texts"]
suppress_warnings = ["myst.xref_missing"]
