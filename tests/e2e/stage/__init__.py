"""What stories act with: the installed release, clients that ask, a watch on pods, figures."""
