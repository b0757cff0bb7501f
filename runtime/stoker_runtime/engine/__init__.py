"""Runner, sampler, memory plan, loop."""
