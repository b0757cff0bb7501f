"""The end-to-end harness: real Kubernetes clusters for tests, the demo and development.

It builds pinned cluster binaries and our images into the user's cache folder and knows three
ways to a cluster (`local`, `kind`, `current`). It knows nothing of the stories that run on it.
"""
