"""Kernels for NVIDIA GPUs: what runs on the host. `device` holds what Triton compiles."""
