"""The torture test: faults, clients, a history of what they saw, and the checker of the history."""
