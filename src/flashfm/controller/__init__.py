"""Live control: one loop that observes, decides, guards, acts and records, the same for every backend."""
