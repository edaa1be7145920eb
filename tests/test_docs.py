"""The documentation site: every notebook and module has a page, every link of the front page leads to one."""
import importlib.util
import re
import runpy

import pytest


@pytest.fixture(scope='module')
def builder(root):
    spec = importlib.util.spec_from_file_location('build_docs', root / 'tools' / 'build_docs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def pages(builder, tmp_path_factory):
    place = tmp_path_factory.mktemp('site') / 'pages'
    builder.stage(place)
    return place


def test_every_notebook_and_module_has_a_page(root, pages):
    notebooks = {path.stem for path in (root / 'nbs').glob('*.ipynb')} - {'index'}
    modules = {path.stem for path in (root / 'track4d_ref').glob('*.py') if not path.name.startswith('_')}
    navigation = set(re.findall(r'^(?:api/)?\w+$', (pages / 'index.md').read_text(), re.M))
    assert notebooks <= {path.stem for path in pages.glob('*.ipynb')} and notebooks <= navigation
    assert modules == {path.stem for path in (pages / 'api').glob('*.md')}
    assert {f'api/{name}' for name in modules} <= navigation


def test_links_of_all_pages_lead_somewhere(pages):
    import nbformat
    texts = {pages / 'index.md': (pages / 'index.md').read_text()}
    for path in pages.glob('*.ipynb'):
        texts[path] = '\n'.join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == 'markdown')
    links = [(path.name, target) for path, text in texts.items() for target in re.findall(r'\]\(([\w./-]+\.(?:ipynb|md|gif))\)', text)]
    assert len(links) >= 10
    assert [link for link in links if not (pages / link[1]).exists()] == []


def test_parts_follow_the_map(builder):
    readme = '<!-- map -->\n| **One** | [01_a](nbs/01_a.ipynb) | x | y |\n|  | [02_b](nbs/02_b.ipynb) | – | y |\n<!-- end of map -->'
    assert builder.parts(readme) == {'One': ['01_a', '02_b']}


def test_pages_show_the_saved_picture_of_a_slider(root, pages):
    settings = runpy.run_path(str(root / 'docs' / 'conf.py'))
    assert ('html', 'application/vnd.jupyter.widget-view+json', None) in settings['nb_mime_priority_overrides'] and settings['nb_ipywidgets_js'] == {}
    assert all((root / 'docs' / folder / name).is_file() for folder, name in zip(settings['html_static_path'], settings['html_css_files']))
    assert '<course>' in (pages / 'index.md').read_text() and (pages / 'course.ipynb').is_file()
