"""Many inputs over a few containers: a flaky source is asked again, and what stays wrong is a result too.

glowplug run many_inputs.py --count 200
"""

from __future__ import annotations

import collections

import glowplug

app = glowplug.App("many-inputs")

asked: collections.Counter[int] = collections.Counter()


@app.function(
    gpu="any",
    max_containers=2,
    retries=glowplug.Retries(max_retries=3, initial_delay=0.0, backoff_coefficient=1.0),
)
def count_letters(page: int) -> int:
    return len(set(download(page)))


def download(page: int) -> str:
    """Stands for a server that refuses every tenth page the first time a container asks, and one always."""
    asked[page] += 1
    if page == 13:
        raise FileNotFoundError(f"page {page} is gone")
    if page % 10 == 0 and asked[page] == 1:
        raise ConnectionResetError(f"page {page}: try again")
    return f"page {page} of the collection, in words" * (page + 1)


@app.local_entrypoint()
def main(count: int = 200):
    results = list(count_letters.map(range(count), return_exceptions=True))
    wrong = {page: result for page, result in enumerate(results) if isinstance(result, Exception)}
    print(f"{len(results)} pages, {len(results) - len(wrong)} counted, in order")
    for page, error in wrong.items():
        print(f"page {page}: {type(error).__name__}: {error}")
