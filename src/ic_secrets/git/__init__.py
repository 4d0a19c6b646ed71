"""Hands git its logins without arguments, mends the clones that kept one, and reads what is checked out.

- `helper`: the credential helper and the shim of a build
- `clones`: credentials in the configuration of clones
- `checkout`: the commit and the branch
"""
