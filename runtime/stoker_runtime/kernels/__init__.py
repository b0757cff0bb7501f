"""One kernel per file, with its torch twin in reference.py."""
