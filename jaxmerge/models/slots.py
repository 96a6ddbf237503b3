"""How many prompts are continued at once, and in what steps the batch shrinks when no further ones wait."""

from dataclasses import dataclass

# Columns of all slots for their prompts. Fewer slots would need less memory, and more passes over the weights.
PROMPT_TOKENS = 16_384
# Of the slots, the part that is filled at once: fewer would run the prompts' pass too often, more would wait for it.
REFILLED = 8
# A batch smaller than this takes hardly less time: the weights are read all the same. Each size is compiled.
FEWEST, MOST_SIZES = 16, 3


@dataclass(frozen=True)
class Slots:
    """count: prompts that are continued at once. prefill: how many of those that wait go through the model together,
    as soon as so many slots are free; all of them where none waits."""

    count: int
    prefill: int

    @classmethod
    def of(cls, prompts: int, length: int) -> "Slots":
        """For prompts of `length` columns, the widest batch that may be."""
        count = min(prompts, max(1, PROMPT_TOKENS // length))
        return cls(count, prompts if count == prompts else -(-count // REFILLED))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the batch, one after another: once no prompt waits, it is halved when half of it has finished."""
        sizes = [self.count]
        while len(sizes) < MOST_SIZES and sizes[-1] // 2 >= FEWEST:
            sizes.append(sizes[-1] // 2)
        return tuple(sizes)


def columns(length: int, max_new_tokens: int) -> int:
    """Of the cache: the last new token does not go through the model."""
    return length + max(max_new_tokens - 1, 1)
