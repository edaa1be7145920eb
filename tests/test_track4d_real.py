"""The shipped LMM-Track4D: it answers unseen scenes, and the experiment on real paths splits and compares as it says."""
import numpy as np
import pytest

from track4d_ref.dialogue_sets import benchmark_entry, in_test
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError, project_path
from track4d_ref.track4d_asking import ask_all_dialogues
from track4d_ref.track4d_real import SCORES, real_cells, real_clips, real_summary, run_real
from track4d_ref.track4d_runs import load_small
from track4d_ref.track4d_training import make_lesson
from track4d_ref.vlm import layout_of


def test_the_shipped_model_follows_things_in_unseen_scenes():
    model, preset = load_small(project_path('data_samples/track4d_tiny')), load_preset('tiny')
    entries = [benchmark_entry(number, preset) for number in range(80, 130)]
    lessons = [make_lesson(clip, dialogue, layout_of(model.vlm)) for clip, dialogue in entries if in_test(dialogue.scene)]
    answers = {mode: ask_all_dialogues(model, lessons, mode=mode).paths for mode in ('self', 'no')}
    assert len(lessons) > 5 and all(answer.found_m is not None for answer in answers['self'])
    error_m = {mode: np.mean([answer.ade_m for answer in found]) for mode, found in answers.items()}
    standing = np.mean([np.nanmean(np.linalg.norm(answer.truth_m - np.nanmean(answer.truth_m, 0), axis=-1)) for answer in answers['self']])
    distance = np.mean([np.nanmean(np.linalg.norm(answer.truth_m, axis=-1)) for answer in answers['self']])
    print(f'{len(lessons)} dialogues: {error_m["self"]:.2f} m with history, {error_m["no"]:.2f} m without; things are {distance:.1f} m away and move {standing:.2f} m')
    assert error_m['self'] < error_m['no'] < distance


def rows(error_m: float, count: int = 30) -> list[dict]:
    return [dict(dialogue=str(k), turn=1 + k % 3, errors=[error_m + 0.01 * (k % 5)] * 4, occluded=False, long=False) for k in range(count)]


def test_what_fine_tuning_changed_is_after_minus_before():
    found = real_summary(rows(2.0), [rows(0.5), rows(0.7), rows(0.6)], rows(0.2), rows(3.0))
    middle, low, high = found['change']['ade_m']
    assert middle == pytest.approx(-1.4, abs=1e-3) and low <= middle <= high < 0
    assert found['scores']['shipped']['traj_acc'][0] == 0 and found['scores']['fine-tuned']['traj_acc'][0] == 1
    cells = real_cells({'kitti': found | dict(train=1, test=30)})
    assert {len(line) for line in cells} == {2 + len(SCORES)} and cells[-1][1] == 'fine-tuned − shipped'


def test_without_data_the_experiment_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.delenv('TRACK4D_DATA', raising=False)
    with pytest.raises(InputError, match='TRACK4D_DATA is not set'): run_real(load_preset('tiny'), tmp_path, 0)
    with pytest.raises(InputError, match='has no folder kitti_tracking'): real_clips(tmp_path)


def test_training_and_test_share_no_scene(data_root):
    clips = real_clips(data_root)
    for name, (train, test) in clips.items():
        scenes = [{clip.meta['scene'] for clip in part} for part in (train, test)]
        assert scenes[0] and scenes[1] and not scenes[0] & scenes[1], name
