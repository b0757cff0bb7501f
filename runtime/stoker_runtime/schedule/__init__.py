"""Pure, torch-free scheduling: sequences, blocks, steps."""
