"""A hospital that shows Leadline at work: synthetic patients, a real model, failures to inject. Needs extra `demo`."""
