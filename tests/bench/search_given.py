"""The search alone, as `rg -F -f NEEDLES TREE` does it: needles from a file, findings to stdout; no store, no keys."""

from __future__ import annotations

import gc
import os
import sys

from ic_secrets.core.shares import count_shares
from ic_secrets.leaks.search import search
from ic_secrets.leaks.walk import Place
from ic_secrets.masking.matcher import Matcher
from ic_secrets.masking.needles import Needle


def main() -> None:
    gc.set_threshold(20_000)  # this, and the end without tidying up, as `ic-secrets` does it
    with open(sys.argv[1], "rb") as file:
        needles = [Needle(str(number), "given", line) for number, line in enumerate(file.read().splitlines())]
    result = search([Place(path) for path in sys.argv[2:]], Matcher(needles), processes=count_shares())
    sys.stdout.writelines(f"{finding.place}\n" for finding in result.findings)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
