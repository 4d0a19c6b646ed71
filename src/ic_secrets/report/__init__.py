"""Report all sites and organizations, and what of their secrets needs attention.

- `owners`: what is found of one owner
- `page`: the report as one HTML page, by `templates/`
"""
