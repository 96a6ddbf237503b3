"""The Japanese problems of the miniature: search, validation and test, all unknown to every model."""

import json
import random
from pathlib import Path

from jaxmerge.demo import world

SIZES = {"search": 192, "validation": 256, "test": 500}
SEED = 2024


def splits() -> dict[str, list[world.Problem]]:
    """Disjoint samples of the held-out problems. Training leaves out held-out problems in both languages and
    in every form (`world.held_out`), so no example here has its English twin or its story in any training
    data."""
    problems = [problem for problem in world.PROBLEMS if world.held_out(problem)]
    drawn = iter(random.Random(SEED).sample(problems, sum(SIZES.values())))
    return {split: [next(drawn) for _ in range(size)] for split, size in SIZES.items()}


def write(folder: Path) -> None:
    """Write `search.jsonl`, `validation.jsonl` and `test.jsonl`: question, solution, number."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, problems in splits().items():
        lines = [
            json.dumps(
                {
                    "question": world.question(problem, "ja"),
                    "solution": world.solution(problem, "ja"),
                    "number": problem.answer,
                },
                ensure_ascii=False,
            )
            for problem in problems
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
