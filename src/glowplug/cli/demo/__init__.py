"""``glowplug demo``: the main job on this machine's cards, or on virtual ones, every line of it asserted."""

from glowplug.cli.demo.command import demo as demo
