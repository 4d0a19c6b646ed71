"""Finds values that were left in files: in their content, their names, the targets of links, and inside archives.

- `search`: the search of trees, shared among processes
- `walk`: what there is to search
- `reader`: reading it, in batches and windows
- `archives`: the members of archives
- `git_objects`: what git keeps compressed
- `findings`: what was found, and what was not searched
"""
