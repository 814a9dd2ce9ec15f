"""Scenes: sampled purely and in microseconds, rendered apart, reproducible one by one."""
