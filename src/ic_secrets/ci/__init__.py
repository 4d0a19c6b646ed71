"""What we know of CI platforms: one record each, which all commands ask.

- `platforms`: the records, and what is found by them: the platform, the job's URL, the branch
- `identity`: the identity token of the job that runs
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .identity import request_token as request_token
    from .platforms import find_job_url as find_job_url, find_written as find_written, is_pipeline as is_pipeline
else:
    __getattr__ = make_face(__name__, identity="request_token", platforms="find_job_url find_written is_pipeline")
