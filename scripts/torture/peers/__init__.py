"""Other systems under the same faults: an adapter for each, with its servers and its clients."""
