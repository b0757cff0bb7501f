"""The only code that talks to the Kubernetes API and to gateways."""
