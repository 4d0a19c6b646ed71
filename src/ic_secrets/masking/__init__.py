"""Hide values in output, and list what searches look for, in every encoding of every secret part of a value.

- `parts`: which parts of a value are secret
- `encodings`: what programs make of a value; one record each
- `needles`: the parts in their encodings
- `occurrences`: needles that are whole, broken over lines, or cut off by the end of the data
- `escapes`: output without the terminal's escape sequences
- `matcher`: needles compiled, to be found fast
- `masker`: one stream, masked while it passes
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .masker import Masker as Masker, mask_text as mask_text
    from .matcher import Matcher as Matcher
    from .needles import Exposed as Exposed, derive_all as derive_all
else:
    __getattr__ = make_face(__name__, masker="Masker mask_text", matcher="Matcher", needles="Exposed derive_all")
