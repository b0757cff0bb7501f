"""The operator: observes deployments and demand, decides, writes pods."""
