"""Move secrets between stores and files.

- `merge`: sets of secrets, and the changes that bring one into a store
- `drift`: the differences between two stores
- `formats`: the files that people have already
"""
