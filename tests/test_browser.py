"""A person at the screen: the tour in JupyterLab and the app, in a headless Chromium. Pictures stay in runs/browser."""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / 'runs' / 'browser'
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
ARGUMENTS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
             '--disable-component-update', '--disable-sync']
PATIENCE_S = 300                                   # two cores that do other things as well


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@contextmanager
def serving(command: list[str], address: str, log: Path):
    """A server that answers at `address` while the block runs."""
    environment = {name: value for name, value in os.environ.items() if name not in ('MPLBACKEND', 'PYTEST_CURRENT_TEST')}
    with open(log, 'w') as told:
        server = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=subprocess.STDOUT, env=environment)
        try:
            started = time.monotonic()
            while True:
                assert server.poll() is None and time.monotonic() - started < PATIENCE_S, log.read_text()
                try: urllib.request.urlopen(address, timeout=30); break
                except OSError: time.sleep(0.5)
            yield
        finally:
            server.terminate()
            try: server.wait(20)
            except subprocess.TimeoutExpired: server.kill()


@pytest.fixture
def page(tmp_path):
    """A page of a browser with a profile of its own; skips where there is none."""
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed; use make test-browser')
    browser = os.environ.get('TRACK4D_BROWSER') or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser: pytest.skip('no browser here; make test-browser installs Chromium')
    PICTURES.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as engine:
        context = engine.chromium.launch_persistent_context(tmp_path / 'profile', executable_path=browser, headless=True, args=ARGUMENTS,
                                                            viewport={'width': 1280, 'height': 1000})
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        yield page
        context.close()


def drag(page, handle, right_px: float) -> None:
    """Take hold of something and move it sideways."""
    box = handle.bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right_px / 2, y, steps=3)
    page.mouse.move(x + right_px, y, steps=3)
    page.mouse.up()


def changed(read, before, seconds: float = PATIENCE_S):
    """What `read` gives once it differs from `before`."""
    started = time.monotonic()
    while (now := read()) == before:
        assert time.monotonic() - started < seconds, f'still {str(before)[:80]}'
        time.sleep(0.2)
    return now


def lab_settings(folder: Path) -> Path:
    """Settings of JupyterLab: all cells stay in the page, nothing is asked of the network."""
    settings = {'notebook-extension/tracker': {'windowingMode': 'none'},
                'apputils-extension/notification': {'fetchNews': 'false', 'checkForUpdates': False}}
    for name, values in settings.items():
        path = folder / '@jupyterlab' / f'{name}.jupyterlab-settings'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    return folder


LAB = ['-m', 'jupyterlab', '--no-browser', '--allow-root', '--ServerApp.port_retries=0', '--IdentityProvider.token=']
BYTES = """async image => { const data = await (await fetch(image.src)).arrayBuffer();
                            return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', data))).join() }"""


def choose(page, menu: str, item: str) -> None:
    """Click an entry of JupyterLab's menu bar."""
    page.get_by_role('menuitem', name=menu, exact=True).click()
    page.get_by_role('menuitem', name=item, exact=True).click()


def kernel_is_idle(page) -> None:
    """Wait for the word in the status bar: the sign in the toolbar says idle before there is a kernel, and cells run then are lost."""
    page.get_by_text(re.compile(r'\| Idle$')).wait_for()


def picture_of_slider(page, name: str):
    """The cell that makes the slider, its picture loaded, in the middle of a screenshot."""
    cell = page.locator('.jp-CodeCell', has_text='slider(lambda frame')
    picture = cell.locator('.jp-OutputArea-output img').first
    picture.scroll_into_view_if_needed()
    assert changed(lambda: picture.evaluate('image => image.naturalWidth'), 0) > 300
    page.mouse.wheel(0, 250)
    time.sleep(1)
    page.screenshot(path=PICTURES / f'jupyterlab_{name}.png')
    return cell, picture


@pytest.mark.timeout(900)
def test_the_tour_runs_in_jupyterlab_and_its_slider_moves_the_picture(page, tmp_path):
    pytest.importorskip('jupyterlab', reason='jupyterlab is not installed')
    port, folder = free_port(), tmp_path / 'notebooks'
    folder.mkdir()
    shutil.copy(ROOT / 'nbs' / '00_tour.ipynb', folder)
    command = [sys.executable, *LAB, f'--port={port}', f'--ServerApp.root_dir={folder}', f'--LabApp.user_settings_dir={lab_settings(tmp_path / "settings")}']
    with serving(command, f'http://127.0.0.1:{port}/api', tmp_path / 'lab.log'):
        page.goto(f'http://127.0.0.1:{port}/lab/tree/00_tour.ipynb?reset')
        page.locator('.jp-Notebook .jp-Cell').first.wait_for()
        picture_of_slider(page, 'saved')                                       # no kernel has drawn yet: the saved picture
        kernel_is_idle(page)
        choose(page, 'Edit', 'Clear Outputs of All Cells')
        assert page.locator('.jp-OutputArea-output').count() == 0
        started = time.monotonic()
        choose(page, 'Run', 'Run All Cells')
        page.get_by_text(re.compile(r'^\d+ of \d+ right')).first.wait_for()
        kernel_is_idle(page)
        print(f'tour in JupyterLab: {time.monotonic() - started:.0f} s')
        assert page.get_by_text(re.compile(r'^\w+Error')).count() == 0
        cell, picture = picture_of_slider(page, 'before')
        handle, shown = cell.locator('.noUi-handle'), lambda: picture.evaluate(BYTES)
        first = shown()
        handle.press('ArrowLeft')                                              # by the keyboard, one frame back
        second = changed(shown, first)
        drag(page, handle, -150)                                               # by the mouse, several
        assert changed(shown, second) != first
        assert int(cell.locator('.widget-readout').inner_text()) < 14
        time.sleep(1)
        page.screenshot(path=PICTURES / 'jupyterlab_after.png')


@pytest.mark.timeout(900)
def test_the_app_follows_a_click_and_answers_a_question(page, tmp_path):
    pytest.importorskip('nicegui', reason='the extra `app` is not installed')
    address = f'http://127.0.0.1:{(port := free_port())}'
    fetched = []
    page.on('request', lambda request: fetched.append(request.url))
    with serving([sys.executable, '-m', 'track4d_ref.cli', 'app', '--port', str(port), '--no-browser'], address, tmp_path / 'app.log'):
        page.goto(address)
        at = page.get_by_test_id
        plan = lambda: at('plan').locator('img').last.get_attribute('src')
        at('pointed').get_by_text('black car: travels').wait_for()
        page.screenshot(path=PICTURES / 'app_open.png')
        box, seen = at('visual').bounding_box(), plan()
        page.mouse.click(box['x'] + 0.25 * box['width'], box['y'] + 0.5 * box['height'])
        at('pointed').get_by_text('orange car: stands still').wait_for()
        seen = changed(plan, seen)
        assert at('visual').locator('svg circle').count() == at('true').locator('svg circle').count() == 1
        lines = at('visual').locator('svg g line').count()
        drag(page, at('time').locator('.q-slider__thumb'), -0.4 * at('time').bounding_box()['width'])
        assert changed(lambda: at('visual').locator('svg g line').count(), lines) < lines
        time.sleep(1)
        page.screenshot(path=PICTURES / 'app_clicked.png')
        at('question').fill('Which way does the black car go?')
        at('ask').click()
        answer = at('answers').locator('.q-card').first
        answer.wait_for()
        assert 'tour_model' in answer.inner_text() and len(answer.inner_text().splitlines()) >= 3
        at('pointed').get_by_text('black car: travels').wait_for()                     # its trajectory, from above
        page.get_by_text('stays where it was in frame 0').wait_for()
        drag(page, at('time').locator('.q-slider__thumb'), 0.5 * at('time').bounding_box()['width'])
        changed(plan, seen)
        page.locator('.q-chip').first.click()
        at('ask').click()
        at('answers').get_by_text('Truth:').wait_for()
        time.sleep(1)
        page.screenshot(path=PICTURES / 'app_asked.png')
        at('model').click()
        page.get_by_role('option', name='base_tiny').click()                           # another model, the same question
        at('ask').click()
        at('answers').locator('.q-card').nth(2).wait_for()
        assert 'base_tiny' in at('answers').locator('.q-card').first.inner_text()
        time.sleep(1)
        page.screenshot(path=PICTURES / 'app_switched.png')
    assert all(url.startswith((address, 'data:')) for url in fetched)                  # nothing is fetched from elsewhere
