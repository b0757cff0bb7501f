"""What Triton compiles, one file per kernel. Only `compiler` and `interpreter` import it."""
