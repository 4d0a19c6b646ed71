"""Hide values in output: their encodings, the needles made of those, the matcher and the streaming masker."""
