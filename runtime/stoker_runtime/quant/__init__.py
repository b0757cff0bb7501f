"""Formats and packing of quantised weights."""
