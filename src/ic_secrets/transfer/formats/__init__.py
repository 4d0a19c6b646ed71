"""Read and write files that people have already; each format is one module."""
