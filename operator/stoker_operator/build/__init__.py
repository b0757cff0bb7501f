"""Pure builders: API object to manifest."""
