"""kopf handlers: observe, decide, apply; nothing else."""
