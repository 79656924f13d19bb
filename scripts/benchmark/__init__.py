"""The benchmark: the servers that are compared, the load, the workloads, and the report."""
