"""Pantheon Secrets as stores: the platform itself over its API, and the secrets.json of one site.

- `base`: what both have in common
- `client`: how the API is asked
- `file`: a secrets.json as a store
- `secrets_json`: the document: its entries, and what a site holds and inherits by it
- `store`: the platform as a store
"""
