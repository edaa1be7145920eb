"""Questions per second from ready clips to records on disk, with one measuring per clip and, for comparison, one per question.

    python benchmarks/questions.py --clips 200 --workers 2

Prints the rates (per processor second too, which a busy machine does not distort), the time 400,000 pairs would take (goal: 10 minutes on 2 cores), and the peak memory after a fifth and after
all of the work. Writes results/questions_speed.json."""
import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from track4d_ref.clips import load_clip
from track4d_ref.presets import load_preset
from track4d_ref.questions import ask
from track4d_ref.records import iterate_records
from track4d_ref.runcard import run_card
from track4d_ref.shards import Plan, find_clips, shard_jobs, write_question_shards, write_shard
from track4d_ref.simulator import write_clips
from track4d_ref.storage import write_json

GOAL_PAIRS, GOAL_SECONDS = 400_000, 600


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rate_of_shards(folder: Path, plan: Plan) -> tuple[int, float, float, list[float]]:
    "Questions, wall and processor seconds, and the peak memory after a fifth and after all shards, in this process."
    jobs, peaks, questions = shard_jobs(folder, plan), [], 0
    start, start_cpu = time.perf_counter(), time.process_time()
    for number, job in enumerate(jobs, 1):
        questions += write_shard(job)
        if number in (max(1, len(jobs) // 5), len(jobs)): peaks.append(round(peak_mib(), 1))
    return questions, time.perf_counter() - start, time.process_time() - start_cpu, peaks


def rate_of_single_questions(folder: Path, plan: Plan, clips: int) -> tuple[int, float]:
    "The peer, in processor seconds: every question loads nothing but measures its clip anew."
    questions, seconds = 0, 0.0
    for path in find_clips(folder)[:clips]:
        clip, rng = load_clip(folder / path), np.random.default_rng(0)
        start = time.process_time()
        questions += sum(ask(clip, kind, rng) is not None for kind in plan.types for _ in range(plan.per_type))
        seconds += time.process_time() - start
    return questions, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=int, default=200)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--per-type', type=int, default=3)
    parser.add_argument('--preset', default='tiny')
    parser.add_argument('--out', type=Path, default=Path('results/questions_speed.json'))
    options = parser.parse_args()
    preset, plan, started = load_preset(options.preset), Plan(per_type=options.per_type, clips_per_shard=10), time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_clips(folder / 'clips', options.clips, 4, preset)
        questions, seconds, cpu_s, peaks = rate_of_shards(folder, plan)
        for path in folder.glob('questions_*.jsonl'): path.unlink()
        start = time.perf_counter()
        shards = write_question_shards(folder, plan, options.workers)
        parallel_s = time.perf_counter() - start
        assert sum(1 for shard in shards for _ in iterate_records(shard)) == questions
        single, single_s = rate_of_single_questions(folder, plan, min(40, options.clips))
    result = dict(questions=questions, per_clip=round(questions / options.clips, 1), per_second_one_process=round(questions / seconds, 1),
                  per_processor_second=round(questions / cpu_s, 1),
                  per_second_parallel=round(questions / parallel_s, 1), workers=options.workers,
                  minutes_for_400k_on_two_free_cores=round(GOAL_PAIRS / (questions / cpu_s) / 60 / 2, 2),
                  minutes_for_400k_parallel=round(GOAL_PAIRS / (questions / parallel_s) / 60, 2), goal_minutes=GOAL_SECONDS / 60,
                  peak_mib_after_a_fifth_and_all=peaks, peer_one_measuring_per_question_per_processor_second=round(single / single_s, 1))
    print(json.dumps(result, indent=1))
    write_json(options.out, dict(result=result, card=run_card('python benchmarks/questions.py', preset, 4, started=started, clips=options.clips)))


if __name__ == '__main__':
    main()
