"""Environments with a root file system of their own, made by buildah."""

from glowplug.images.oci.builder import OciBuilder

__all__ = ["OciBuilder"]
