"""Volumes on disk: blocks by content, commits that are whole or not there, private views for containers."""
