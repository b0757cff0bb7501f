"""`stoker simulate`: the operator's own scaling rules over a trace, in simulated time."""
