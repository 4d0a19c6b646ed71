"""Report all sites and organizations, and what of their secrets needs attention.

- `owners`: what is found of one owner
- `page`: the report as one HTML page, by `templates/`
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .owners import (
        Entry as Entry,
        Limits as Limits,
        OwnerReport as OwnerReport,
        Totals as Totals,
        Usage as Usage,
        report_organization as report_organization,
        report_site as report_site,
    )
else:
    __getattr__ = make_face(__name__, owners="Entry Limits OwnerReport Totals Usage report_organization report_site")
