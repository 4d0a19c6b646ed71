"""Say what a run would do, and what would fail.

- `dry_run`: the steps of a run, up to its exposure
- `facts`: what checks are asked about
- `variables`: what installers of packages find besides credentials
- `checks`: the registry of checks, which are in `credentials`, `project` and `secrets`; a `problem` is their result
- `online`: repositories asked whether they accept their credential
- `plan`: the plan itself
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .dry_run import DryRun as DryRun, list_questions as list_questions, try_run as try_run
    from .plan import Plan as Plan, Row as Row, make_plan as make_plan
    from .problem import LEVELS as LEVELS, Problem as Problem
else:
    __getattr__ = make_face(
        __name__, dry_run="DryRun list_questions try_run", plan="Plan Row make_plan", problem="LEVELS Problem"
    )
