"""``install_alias()`` makes ``import modal`` Glowplug; this directory on the path does so without a call."""

from glowplug.sdk.modal_alias import install_alias

__all__ = ["install_alias"]
