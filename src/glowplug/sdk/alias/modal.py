"""Found as ``modal`` where this directory is on the path: gives way to the alias of ``modal_alias.py``."""

import importlib
import sys

from glowplug.sdk.modal_alias import install_alias

del sys.modules[__name__]
install_alias()
# The import that led here takes what sys.modules holds when it is done.
importlib.import_module(__name__)
