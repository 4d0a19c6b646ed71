"""Finds values that were left in files: in their content, their names, the targets of links, and inside archives.

- `search`: the search of trees, shared among processes
- `walk`: what there is to search
- `reader`: reading it, in batches and windows
- `archives`: the members of archives
- `git_objects`: what git keeps compressed
- `findings`: what was found, and what was not searched
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .findings import Finding as Finding, SearchResult as SearchResult
    from .walk import Place as Place
else:
    __getattr__ = make_face(__name__, findings="Finding SearchResult", walk="Place")
