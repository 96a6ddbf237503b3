"""What lies in folders that a search has written: tensors, histories, and what transformers makes of a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.objectives.base import PreparedObjective


def tensors(folder: Path) -> dict[str, np.ndarray]:
    checkpoint = Checkpoint.open(folder)
    return {name: checkpoint.read(name) for name in checkpoint.tensors}


def likelihoods(model: Any, objective: PreparedObjective) -> np.ndarray:
    """What transformers gives for each reference answer of the test split."""
    found = []
    for [tokens] in objective.split("test").references:
        ids = torch.tensor([tokens.ids])
        with torch.no_grad():
            logs = torch.log_softmax(model(ids).logits[0, :-1].double(), -1)
        picked = logs[torch.arange(len(tokens.ids) - 1), ids[0, 1:]]
        found.append(picked[tokens.counted_from - 1 :].mean().item())
    return np.array(found)


def assert_same_texts(model: Any, objective: PreparedObjective, written: np.ndarray) -> None:
    """That transformers continues the prompts of the test split greedily as written: int32 `[N, new tokens]`, -1 behind
    an end."""
    for [tokens], own in zip(objective.split("test").prompts, written, strict=True):
        options = {"max_new_tokens": written.shape[1], "do_sample": False}
        answer = model.generate(torch.tensor([tokens.ids]), **options)[0, len(tokens.ids) :]
        ours = own[own >= 0].tolist()
        assert answer.tolist()[: len(ours)] == ours and len(ours) in (len(answer), len(answer) - 1)


def history(run: Path) -> list[dict[str, Any]]:
    """The lines of a history in one order, without times."""
    rows = [json.loads(line) | {"seconds": 0} for line in (run / "history.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: (row["stage"], row["generation"], row["index"]))
