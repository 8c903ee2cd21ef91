"""What was observed: applications run under real CPU and memory limits by the kernel, and what they used."""
