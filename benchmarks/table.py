"""The table of benchmarks/README.md, from the results that are there.

    python benchmarks/table.py
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import RESULTS

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- from results/ by table.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Row:
    """what is measured; bar: to be reached; result: the file's name; number: what the file says, as text."""

    what: str
    bar: str
    result: str
    number: Callable[[Any], str]


def each(field: str, digits: int = 2, **wanted: Any) -> Callable[[Any], str]:
    """Of the rows that are as wanted, each operator's number."""

    def read(rows: Any) -> str:
        chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        return ", ".join(f"{row['operator']} {row[field]:.{digits}f}" for row in chosen)

    return read


def spread(rows: Any, space: str) -> str:
    return " / ".join(f"{row['test_score']:.3f}" for row in rows if row["space"] == space)


def seeds(rows: Any) -> str:
    ours = " / ".join(f"{row['test_score']:.3f}" for row in rows)
    control = " / ".join(f"{row['baselines']['random_search']['test_score']:.3f}" for row in rows)
    return f"{ours}, random search {control}"


ROWS = (
    Row(
        "candidate against plain forward, 512 tokens, bfloat16 bank",
        "≤ 1.05 (dare_ties 1.08)",
        "candidate_bfloat16_512_4096",
        each("ratio", tokens=512),
    ),
    Row(
        "candidate against plain forward, 4096 tokens, bfloat16 bank",
        "≤ 1.03 (dare_ties 1.06)",
        "candidate_bfloat16_512_4096",
        each("ratio", tokens=4096),
    ),
    Row(
        "candidate against plain forward, 4096 tokens, float32 bank",
        "≤ 1.03 (dare_ties 1.06)",
        "candidate_float32_4096",
        each("ratio"),
    ),
    Row(
        "all but the scoring, against mergekit to disk and transformers' load, at least",
        "≥ 100 times cheaper",
        "against_mergekit",
        each("all_but_scoring_times_cheaper_at_least", digits=0, tokens=512),
    ),
    Row(
        "data-flow path against the model it is exported as, 512 and 4096 tokens",
        "",
        "dataflow",
        lambda rows: ", ".join(f"{row['ratio']:.2f}" for row in rows if row["what"] == "likelihood"),
    ),
    Row("greedy generation, tokens a second, of transformers'", "≥ 1.0", "generation", lambda r: f"{r['ratio']:.2f}"),
    Row(
        "answers of lengths spread tenfold, tokens a second of a padded batch's: shrinking, 32 slots refilled; a busy "
        "machine, on which two smaller runs gave 0.82, 1.20 and 0.77, 1.16: nothing is shown yet",
        "≥ 1.5",
        "refill",
        lambda r: ", ".join(
            f"{form['speedup over padded, all 128 at once']:.2f}"
            for name, form in r["forms"].items()
            if not name.startswith("padded")
        ),
    ),
    Row(
        "rows of several texts (not in the package), seconds of buckets'",
        "",
        "packing",
        lambda r: f"{r['packed_over_buckets']:.2f}",
    ),
    Row(
        "low-rank search after half the candidates, test, nats (all of them in parameter space)",
        "> plain",
        "low_rank",
        lambda rows: " / ".join(f"{row['test_score']:.4f}" for row in reversed(rows)),
    ),
    Row(
        "one CPU device against two on the same two cores, of which one uses both already",
        "≥ 1.7 times",
        "devices",
        lambda r: f"{r['speedup']:.2f}, scores {'the same' if r['same_scores'] else 'differ'}",
    ),
    Row("search besides scoring", "≤ 5% of a generation", "overhead", lambda r: f"{100 * r['overhead_share']:.1f}%"),
    Row(
        "compilations after the first generation",
        "0",
        "overhead",
        lambda r: str(r["compilations_after_the_first_generation_was_told"]),
    ),
    Row("`jaxmerge --help`, seconds", "", "startup", lambda r: f"{r['help_seconds']:.2f}"),
    Row(
        "tiny `jaxmerge merge`, seconds, whole process",
        "≤ 1.5 to the first byte",
        "startup",
        lambda r: f"{r['merge_seconds']:.1f}",
    ),
    Row(
        "peak memory of a bank on the host, of that on the device, MB",
        "≤ two layers, activations, logits",
        "bank_home",
        lambda r: " / ".join(f"{home['peak_mb']:.0f}" for home in reversed(r["homes"])),
    ),
    Row(
        "a candidate of 10 LoRAs, core-seconds, against mergekit's way and transformers, torch on factors; one run on "
        "a busy machine, which slows the first peer more",
        "≥ 20 times cheaper",
        "batched",
        lambda r: f"{r['loras'][0]['times_cheaper_than_mergekit_style_core']:.0f}, "
        f"{r['loras'][0]['times_cheaper_than_torch_factors_core']:.0f}",
    ),
    Row(
        "the same search's peak memory, of that in which the model alone is scored",
        "< 1.5",
        "batched",
        lambda r: f"{r['loras'][0]['peak_against_one_models']:.2f}",
    ),
    Row(
        "racing: tokens with finalists, rank correlation within generations, same winner",
        "≤ 1/3, ≥ .9, all",
        "racing",
        lambda r: f"{100 * r['racing']['tokens_share_with_finalists']['mean']:.0f}%, "
        f"{r['racing']['rank_correlation_within_generations']['mean']:.2f}, {r['racing']['same_winner']}",
    ),
    Row(
        "Adam's forward passes to CMA-ES's likelihood, three seeds",
        "≤ 20%",
        "gradient",
        lambda r: " / ".join(f"{100 * run['share']:.0f}%" if run["share"] else "never" for run in r["cma_es"]),
    ),
    Row(
        "screened search, best search score (plain) at its share of the forward passes",
        "≥ plain at ≤ 1/3",
        "screening",
        lambda r: " / ".join(
            f"{run['screened']['best_score']:.3f} ({run['plain']['best_score']:.3f}) at {100 * run['share']:.0f}%"
            for run in r["seeds"]
        ),
    ),
    Row("demo, parameter space, test, three seeds", "PS > DFS > parents", "demo_spaces", lambda r: spread(r, "PS")),
    Row("demo, data-flow space", "", "demo_spaces", lambda r: spread(r, "DFS")),
    Row("demo, one after the other", "≥ PS", "demo_spaces", lambda r: spread(r, "PS+DFS")),
    Row("demo with a useless model, three seeds", "> random search", "demo_seeds_evolve_distraction_trained_0", seeds),
    Row(
        "SmolLM2-135M: recorded score against transformers'",
        "",
        "smollm2",
        lambda r: f"differ by {r['transformers_difference']:.0e}",
    ),
    Row(
        "Pallas kernels, cases that a device's compiler takes, without the device",
        "all",
        "kernels_compiled",
        lambda rows: "; ".join(
            f"{row['device']} {sum(case['kernel'] for case in row['cases'])} of {len(row['cases'])}" for row in rows
        ),
    ),
    Row(
        "report of 25,600 candidates, seconds",
        "",
        "report",
        lambda rows: f"{rows[-1]['build_seconds']:.1f}",
    ),
)


def table() -> str:
    lines = ["| what | to reach | measured | on |", "|---|---|---|---|"]
    for row in ROWS:
        file = RESULTS / f"{row.result}.json"
        number, where = "not measured", ""
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            machine = found["machine"]
            number = row.number(found["results"])
            where = f"{machine['processor']}, {machine['cores']} core{'s' * (machine['cores'] > 1)}"
        lines.append(f"| {row.what} | {row.bar} | {number} | {where} |")
    return "\n".join(lines)


def page() -> str:
    """The page with the table as it should be."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(page(), encoding="utf-8")
