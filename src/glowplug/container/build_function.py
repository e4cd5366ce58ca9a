"""``python -m glowplug.container.build_function FILE``: a step of an image that is a Python function.

It runs as the process of a build; what it writes becomes the layer, its output the build's.
"""

from __future__ import annotations

import base64
import json
import pickle
import sys
from typing import Any

from glowplug.container.imports import load_function


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        step = json.load(file)
    del sys.path[0]  # the working directory, which `python -m` puts there
    for path in step["search_path"]:
        if path not in sys.path:
            sys.path.append(path)
    definition: dict[str, Any] = {
        "module": step["module"],
        "qualname": step["qualname"],
        "serialized": base64.b64decode(step["serialized"]),
    }
    try:
        function = load_function(definition, step["source"])
    except TypeError as error:
        if "code" not in str(error):
            raise
        raise SystemExit(
            f"the function was sent by value and this image has another version of Python ({error}). Define "
            "it at the top level of a module, or start from Image.debian_slim() without python_version="
        ) from None
    arguments, keywords = ((), {})
    if step["arguments"]:
        arguments, keywords = pickle.loads(base64.b64decode(step["arguments"]))
    result = function(*arguments, **keywords)
    if hasattr(result, "__await__"):
        import asyncio

        async def wait() -> None:
            await result

        asyncio.run(wait())
    sys.stdout.flush()


if __name__ == "__main__":
    main()
