"Run cards: content hashes, plain JSON, nothing private."
import json
import platform
import time
from pathlib import Path

import track4d_ref
from track4d_ref.presets import load_preset
from track4d_ref.runcard import code_version, data_hash, library_versions, machine, run_card


def test_hash_depends_on_content_and_names_only(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name / 'sub').mkdir(parents=True)
        (tmp_path / name / 'sub/x.bin').write_bytes(b'\0' * 1000)
        (tmp_path / name / 'y.txt').write_text('y')
    same = data_hash([tmp_path / 'a'])
    assert same == data_hash([tmp_path / 'b']) and len(same) == 16
    (tmp_path / 'b/y.txt').write_text('Y')
    assert same != data_hash([tmp_path / 'b'])
    (tmp_path / 'a/sub/x.bin').rename(tmp_path / 'a/sub/z.bin')
    assert same != data_hash([tmp_path / 'a'])
    assert data_hash([]) != data_hash([tmp_path / 'a/y.txt'])


def test_card_is_plain_json_with_everything_in_it():
    card = run_card('track4d x', load_preset('tiny', ('frames=6',)), 3, started=time.perf_counter() - 2, note='n')
    assert json.loads(json.dumps(card)) == card
    assert card['preset']['frames'] == 6 and card['seed'] == 3 and 2 <= card['wall_s'] < 5 and card['extra'] == {'note': 'n'}
    assert card['code']['version'] == track4d_ref.__version__ and card['libraries'] == library_versions()
    assert run_card('x', {}, 0)['wall_s'] is None


def test_card_names_no_host_user_or_folder():
    text = json.dumps(run_card('x', {}, 0))
    for private in (platform.node(), str(Path.home()), str(Path(track4d_ref.__file__).parent)): assert private not in text


def test_code_hash_is_stable_and_machine_is_described():
    assert code_version() == code_version()
    assert machine()['cores'] >= 1 and machine()['python'].count('.') == 2
