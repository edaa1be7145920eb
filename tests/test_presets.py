import dataclasses
import re
from pathlib import Path

import pytest

from track4d_ref.presets import SCALES, Preset, load_preset, load_thresholds, read_settings
from track4d_ref.storage import InputError

ROOT = Path(__file__).parent.parent


def test_scales_have_the_fields_of_the_preset():
    settings = read_settings()
    fields = [field.name for field in dataclasses.fields(Preset) if field.name != 'name']
    for scale in SCALES: assert list(settings[scale]) == fields


def test_paper_sections_hold_only_known_keys_and_say_where_published():
    settings, text = read_settings(), (ROOT / 'settings.ini').read_text()
    for section in (name for name in settings.sections() if name.startswith('paper-')):
        assert set(settings[section]) <= set(settings['tiny'])
        body = text.split(f'[{section}]')[1].split('\n[')[0]
        published = False
        for line in filter(None, map(str.strip, body.splitlines())):
            if line.startswith('#'): published = re.search(r'section|§|script|arXiv', line) is not None
            else: assert published, f'{section}: {line} does not say where it was published'


def test_every_key_is_used_in_a_notebook():
    code = '\n'.join(path.read_text() for path in (ROOT / 'track4d_ref').glob('*.py') if path.stem != 'presets')
    unused = [field.name for record in (Preset,) for field in dataclasses.fields(record) if not re.search(rf'\.{field.name}\b', code)]
    assert unused == []


@pytest.mark.parametrize('overrides, words', [
    (('framse=4',), "unknown key 'framse'"),
    (('frames',), 'key=value'),
    (('frames=4.5',), "frames = '4.5'"),
    (('frames=-2',), 'frames = -2 is too small'),
    (('frames=7',), 'use 8'),
    (('resolution=113',), 'use 140'),
    (('learning_rate=nan',), 'finite'),
    (('objects_min=9',), 'objects_max'),
])
def test_wrong_overrides_name_the_key(overrides, words):
    with pytest.raises(InputError, match=re.escape(words)): load_preset('tiny', overrides)


def test_unknown_preset_lists_the_choices():
    with pytest.raises(InputError, match='tiny, small, rtx24'): load_preset('paper-4dpqa')


@pytest.mark.parametrize('text, words', [('frames = 8', 'settings.ini'), ('[tiny]\nframes = 8\nframes = 9', 'frames'),
                                         ('[tiny]\nframes = 8', "'resolution' is missing")])
def test_broken_settings_are_told(tmp_path, text, words):
    (tmp_path / 'settings.ini').write_text(text)
    with pytest.raises(InputError, match=words): load_preset('tiny', path=tmp_path / 'settings.ini')


def test_thresholds_fall_back_to_the_defaults():
    default, kitti = load_thresholds('default'), load_thresholds('kitti')
    assert kitti.axis_ratio == default.axis_ratio and kitti.still_fraction != default.still_fraction
    assert load_thresholds('unheard-of') == dataclasses.replace(default, source='unheard-of')
