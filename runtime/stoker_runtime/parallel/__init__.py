"""One model over several processes: what each of them holds, and how their results meet."""
