import jax
import numpy as np

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.demo import curriculum, tokenizer, train

CONFIG = architecture_of(train.CONFIG).read(train.CONFIG)
TABLE = architecture_of(train.CONFIG).table(CONFIG)


def test_rows_count_the_answer_and_its_end():
    lesson = train.Lesson(1, 1, 0.25, train._adamw)
    (part,) = train.rows([("6 - 1 =", "5")], lesson)
    eos = tokenizer.VOCABULARY[tokenizer.EOS]
    assert part.tokens.shape == (1, 1, 16)
    assert part.tokens[0, 0, :7].tolist() == [
        *tokenizer.build().encode("6 - 1 = 5").ids,
        eos,
    ]
    assert part.weights[0, 0].tolist() == [0, 0.25, 0.25, 0.25, 0.25, 1, 1] + [0] * 9
    assert part.valid[0, 0].tolist() == [True] * 7 + [False] * 9


def test_training_lowers_the_loss_and_repeats_itself():
    lesson = train.Lesson(20, 16, 0.15, train._muon)
    lines: list[str] = []

    def run() -> dict[str, jax.Array]:
        return train.fit(train.initial(TABLE, 0), CONFIG, lesson, curriculum.lessons("base", 0), lines.append)

    first, second = run(), run()
    assert all(np.array_equal(first[path], second[path]) for path in first)
    assert float(lines[0].split()[-1]) < 0.8 * np.log(len(tokenizer.VOCABULARY))
