import numpy as np
import pytest

from track4d_ref.aria import read_adt_pinhole
from track4d_ref.figures import object_motions, static_medians
from track4d_ref.kitti import read_kitti_tracking
from track4d_ref.presets import load_preset
from track4d_ref.report import Page
from track4d_ref.storage import InputError
from track4d_ref.tour import hero_clip, margin, motion_section, moving_objects, real_sections, run_tour


def test_kitti_parked_cars_slide_and_stand_still(data_root):
    motions = object_motions(read_kitti_tracking(data_root / 'kitti_tracking', 1, 0, 21), 0)
    for motion in motions: print(f'{motion.caption:12s} spread {motion.world_spread_m:.3f} m, visual {motion.visual_px:.0f} px, true {motion.true_motion_px:.1f} px')
    count, visual_px, true_px = static_medians(motions)
    print(f'{count} static: median visual {visual_px:.0f} px, true motion {true_px:.1f} px')
    assert visual_px >= 300 and true_px <= 10


def test_fork_and_spoon_are_what_moves(data_root):
    moving = moving_objects(read_adt_pinhole(data_root / 'adt_pinhole'))
    print(moving)
    assert len(moving) == 2 and any('fork' in name for name in moving) and any('spoon' in name for name in moving)


def test_motion_section_and_missing_data():
    page = Page('test')
    found = motion_section(page, hero_clip(load_preset('tiny')), 'title', 'words')
    assert found['static'] >= 1 and found['median_true_motion_px'] < 1 < found['median_visual_px']
    assert real_sections(Page('test'), None) == {}


def test_margin_is_paired():
    row = lambda answer: {'type': 'camera_movement', 'truth': 'A', 'answer': answer}
    ours, blind = [row('A')] * 8 + [row('B')] * 2, [row('A')] * 3 + [row('C')] * 7
    gain = margin(ours, blind)
    assert gain['accuracy'] == 80 and gain['blind'] == 30 and np.isclose(gain['points_above_blind'], 50)
    assert gain['low'] < 50 < gain['high']


def test_a_wrong_data_folder_is_told(tmp_path):
    with pytest.raises(InputError, match='no such folder'): run_tour(tmp_path / 'out', load_preset('tiny'), tmp_path / 'nowhere')
    assert not (tmp_path / 'out').exists()


def test_small_tour_writes_one_page(tmp_path):
    preset = load_preset('tiny', ('train_steps=3', 'train_clips=6', 'eval_clips=4'))
    result = run_tour(tmp_path, preset)
    html = (tmp_path / 'report.html').read_text()
    assert result['report'].endswith('report.html') and html.count('data:image') > 8 and 'src="http' not in html
    assert {'before training', 'blind', 'after training'} <= set(html.replace('<h3>', '|').replace('</h3>', '|').split('|'))
