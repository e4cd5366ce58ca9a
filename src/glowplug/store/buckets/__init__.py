"""Buckets of object stores as directories: a volume of this machine that is brought in line with one."""
