"""Glowplug: serverless GPU functions on machines you own."""

__version__ = "0.1.0"
