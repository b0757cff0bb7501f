"""Tokenizer, chat template, detokeniser."""
