"""A mixture of experts learns to predict the next letter of a text, and continues a prompt.

    glowplug run run_mixtral.py --prompt "the gl" --length 60

Each letter is predicted from the five before it. A router picks two of eight experts for each and only those
count, which is what makes such models cheap to run for their size.
"""

from __future__ import annotations

from typing import Any

import glowplug
from devices import arrays

app = glowplug.App("mixtral")

TEXT = """
the glow plug warms the chamber before the engine starts, so the first stroke fires as well as the last one. a
cold engine needs a long time; a warm one starts at once. what is kept warm costs a little while nothing runs,
and what is cold costs a lot when something must run now. the plug is small, the engine is large, and the wait
is in between. so the plug glows before it is needed, the engine starts at once, and nobody waits anymore.
"""
LETTERS = sorted(set(TEXT))
CONTEXT = 5
EXPERTS = 8
CHOSEN = 2


@app.function(gpu="H100")
def run_mixtral(prompt: str, length: int = 60, epochs: int = 120) -> dict[str, Any]:
    """Train on the text, then continue ``prompt`` by the likeliest letters."""
    np = arrays()
    draws = np.random.default_rng(0)
    known = [LETTERS.index(letter) for letter in TEXT]
    contexts = np.asarray([known[at : at + CONTEXT] for at in range(len(known) - CONTEXT)])
    targets = np.asarray(known[CONTEXT:])
    inputs = one_hot(np, contexts)
    router = draws.standard_normal((inputs.shape[1], EXPERTS)) * 0.1
    experts = draws.standard_normal((EXPERTS, inputs.shape[1], len(LETTERS))) * 0.1
    rows = np.arange(len(targets))
    losses = []
    for _ in range(epochs):
        gates, logits, chances = forward(np, router, experts, inputs)
        losses.append(float(-np.log(chances[rows, targets] + 1e-12).mean()))
        # Cross-entropy: what is wrong with each logit is its chance, less one where it is the letter.
        wrong = chances.copy()
        wrong[rows, targets] -= 1
        for expert in range(EXPERTS):
            experts[expert] -= 12.0 * inputs.T @ (wrong * gates[:, expert, None]) / len(rows)
        # A gate should grow where its expert does better than the chosen ones together.
        each = (logits * wrong[:, None, :]).sum(axis=2)
        better = gates * (each - (gates * each).sum(axis=1, keepdims=True))
        router -= 12.0 * inputs.T @ better / len(rows)
    text = prompt
    for _ in range(length):
        context = [LETTERS.index(letter) for letter in text[-CONTEXT:]]
        _, _, chances = forward(np, router, experts, one_hot(np, np.asarray([context])))
        text += LETTERS[int(chances[0].argmax())]
    gates, _, _ = forward(np, router, experts, inputs)
    return {
        "perplexity": [round(2.718281828 ** losses[0], 2), round(2.718281828 ** losses[-1], 2)],
        "use": [round(float(share), 2) for share in (gates > 0).mean(axis=0)],
        "text": text,
    }


def forward(np: Any, router: Any, experts: Any, inputs: Any) -> tuple[Any, Any, Any]:
    """How much each expert counts for each row, what each says, and the chance of each letter."""
    scores = inputs @ router
    least = np.sort(scores, axis=1)[:, -CHOSEN, None]
    gates = softmax(np, np.where(scores >= least, scores, -np.inf))
    logits = np.stack([inputs @ expert for expert in experts], axis=1)
    return gates, logits, softmax(np, (gates[:, :, None] * logits).sum(axis=1))


def softmax(np: Any, scores: Any) -> Any:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def one_hot(np: Any, contexts: Any) -> Any:
    return np.eye(len(LETTERS))[contexts].reshape(len(contexts), -1)


@app.local_entrypoint()
def main(prompt: str = "the gl", length: int = 60):
    if len(prompt) < CONTEXT or set(prompt) - set(LETTERS):
        raise SystemExit(f"a prompt has at least {CONTEXT} letters, all of them of the text")
    trained = run_mixtral.remote(prompt, length)
    before, after = trained["perplexity"]
    print(f"perplexity {before} -> {after}; share of letters each expert is asked for: {trained['use']}")
    print(trained["text"].replace("\n", " "))
