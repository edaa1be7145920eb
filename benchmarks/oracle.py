"""Agreement of the question engine with the oracle, which sees depth, masks and cameras only.

    python benchmarks/oracle.py --questions 20000
    python benchmarks/oracle.py --questions 20000 --seed 2 --out results/oracle_agreement_seed2.json

Makes clips until so many questions are asked, prints the table per type and writes it to a file: `rows` and `against` for
the oracle where it is sure, `bare_rows` and `bare_against` for its every guess. The rules of sureness were made on seeds 0 and 1."""
import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np

from track4d_ref.oracle import Oracle, agreement_table, oracle_agrees
from track4d_ref.oracle_limits import surely_agrees
from track4d_ref.presets import load_preset, load_thresholds
from track4d_ref.questions import Style, ask_all
from track4d_ref.runcard import run_card
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import write_json

STYLE = Style(modes=('caption', 'pixel'), systems=('first camera', 'gravity-aligned', 'screen'))


JUDGES = {'': surely_agrees, 'bare_': oracle_agrees}


def table(rows: list[dict]) -> str:
    lines = [f'{"type":34}{"asked":>7}{"agreed":>8}{"against":>9}{"undecided":>11}{"agreement":>11}']
    for row in rows:
        share = '–' if row['agreement'] is None else f'{row["agreement"]:.4f}'
        lines.append(f'{row["type"]:34}{row["asked"]:7}{row["agreed"]:8}{row["disagreed"]:9}{row["undecided"]:11}{share:>11}')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--questions', type=int, default=20_000)
    parser.add_argument('--per-type', type=int, default=4)
    parser.add_argument('--preset', default='tiny')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('results/oracle_agreement.json'))
    options = parser.parse_args()
    preset, cuts, started, index = load_preset(options.preset), load_thresholds('simulator'), time.perf_counter(), 0
    verdicts, against = {name: Counter() for name in JUDGES}, {name: [] for name in JUDGES}
    while verdicts[''].total() < options.questions:
        clip = simulate_clip(options.seed, preset, index)
        oracle = Oracle(clip)
        for question in ask_all(clip, np.random.default_rng(index), per_type=options.per_type, style=STYLE):
            for name, agrees in JUDGES.items():
                verdict = agrees(oracle, question, cuts)
                verdicts[name][question.type, verdict] += 1
                if verdict is False: against[name].append(f'{clip.id} {question.type}: {question.meta.get("truth", "track")}')
        index += 1
    rows = {f'{name}rows': agreement_table(counts) for name, counts in verdicts.items()}
    print('where it is sure', table(rows['rows']), *against[''], '\nevery guess', table(rows['bare_rows']), *against['bare_'], sep='\n')
    command = f'python benchmarks/oracle.py --questions {options.questions} --seed {options.seed}'
    card = run_card(command, preset, options.seed, started=started, clips=index)
    write_json(options.out, dict(rows, **{f'{name}against': found for name, found in against.items()}, card=card))


if __name__ == '__main__':
    main()
