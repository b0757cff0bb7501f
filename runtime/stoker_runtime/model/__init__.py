"""Spec, layers, attention, decoder, weights."""
