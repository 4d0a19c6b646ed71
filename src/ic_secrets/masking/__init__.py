"""Hide values in output, and list what searches look for, in every encoding of every secret part of a value.

- `parts`: which parts of a value are secret
- `encodings`: what programs make of a value; one record each
- `needles`: the parts in their encodings
- `occurrences`: needles that are whole, broken over lines, or cut off by the end of the data
- `escapes`: output without the terminal's escape sequences
- `matcher`: needles compiled, to be found fast
- `masker`: one stream, masked while it passes
"""
