# %% [markdown]
# # The app
# > Look at a clip, point at something, ask in words; tracks, a view from above, an answer: one page in the browser.

# %%
#| default_exp app_page

# %% [markdown]
# * **What** `track4d app`: the page that puts the four things of [`28d_looking`](28d_looking.ipynb) under a mouse
# * **Why** a claim about motion is believed sooner when one can point at the thing oneself
# * **Paper** none; the page is **[ours]**
# * **Needs** the extra `app` (NiceGUI) to open the page; this notebook runs without it
# * **Time** 20 seconds
# * **Before this** [`28d_looking`](28d_looking.ipynb), [`28_commands`](28_commands.ipynb)

# %%
#| export
import importlib.util
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from track4d_ref.commands import PresetOption, SetOption, app
from track4d_ref.looking import (Reply, clip_choices, first_thing, frame_uri, load_talker, model_choices,
                                 named_object, open_choice, plan_figure, point_at, point_at_object, suggestions,
                                 track_svg)
from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt
from IPython.display import Image

from track4d_ref.commands import draw_terminal, run_command
from track4d_ref.storage import project_path

# %% [markdown]
# ## The page
#
# NiceGUI draws it: a well-kept toolkit whose image element reports clicks in the picture's own pixels, whose files all come with
# the package, so that nothing is fetched from elsewhere, and which lives with the versions pinned here (Gradio asks for pillow < 13).
# `Layout` says what stands where.

# %%
#| export
KNOWN = {'tour_model': 'two minutes of questions', 'base_tiny': 'names things, no motion',
         'questions_tiny': 'two hours of 4D questions'}                                        # the shipped ones

class Layout:
    "What stands where on the page; what happens on a click is the subclass's."

    def __init__(self, clips: dict[str, Path], models: dict[str, Path]):
        from nicegui import ui
        self.ui, self.clips, self.models = ui, dict(clips), models
        ui.colors(primary='#0072B2')
        ui.add_css('.q-chip__content { white-space: normal }')
        self.head(); self.pictures(); self.talk()

    def tagged(self, element, name: str):
        "Give an element a name that tests can find."
        return element.props(f'data-testid={name}')

    def head(self) -> None:
        "Title, the clip, the model."
        ui = self.ui
        with ui.row().classes('w-full items-center gap-4'):
            ui.label('track4d').classes('text-2xl font-bold')
            ui.label('Look at a clip, point at something, ask.').classes('text-grey-7 grow')
            self.clip_box = self.tagged(ui.select(list(self.clips), label='clip', on_change=lambda e: self.open_clip(e.value)), 'clip').classes('w-64')
            named = {name: f'{name}: {KNOWN[name]}' if name in KNOWN else name for name in self.models}
            self.model_box = self.tagged(ui.select(named, label='model', value=next(iter(named), None)), 'model').classes('w-72')

    def pictures(self) -> None:
        "Two pictures side by side and the time below them."
        ui = self.ui
        with ui.grid(columns=2).classes('w-full gap-4'):
            for name, words in (('visual', 'Visual track: what the picture shows. Click on anything.'),
                                ('true', 'True motion: the same point, seen by a camera that stays where it was.')):
                with ui.column().classes('gap-1'):
                    setattr(self, f'{name}_words', ui.label(words).classes('text-sm text-grey-8'))
                    picture = ui.interactive_image(on_mouse=self.click, sanitize=False, cross=name == 'visual').classes('w-full rounded')
                    setattr(self, name, self.tagged(picture, name))
        with ui.row().classes('w-full items-center no-wrap gap-4'):
            self.when = ui.label().classes('w-40 text-sm')
            self.time = self.tagged(ui.slider(min=0, max=1, value=0, on_change=lambda: self.show()), 'time').classes('grow')
            self.told = self.tagged(ui.label(), 'pointed').classes('w-96 text-sm')

    def talk(self) -> None:
        "The question, the answers, and the view from above."
        ui = self.ui
        with ui.grid(columns=2).classes('w-full gap-4'):
            with ui.column().classes('gap-2'):
                with ui.row().classes('w-full items-center no-wrap'):
                    self.question = self.tagged(ui.input('Ask in words').classes('grow').on('keydown.enter', self.ask), 'question')
                    self.tagged(ui.button('Ask', on_click=self.ask), 'ask')
                self.offers = ui.row().classes('gap-1')
                self.answers = self.tagged(ui.column().classes('w-full gap-2'), 'answers')
            with ui.column().classes('gap-1'):
                self.plan = self.tagged(ui.image().classes('w-full'), 'plan')
                with ui.row().classes('w-full items-center no-wrap'):
                    self.folder = self.tagged(ui.input('Your own clip: its folder').classes('grow'), 'folder')
                    ui.button('Open', on_click=self.bring).props('flat')


# %% [markdown]
# What a person does, one method each: open a clip, bring one, click, drag time, ask.

# %%
#| export
class Screen(Layout):
    "One visitor's page: a clip, a moment, what was pointed at, what was asked."

    def __init__(self, clips: dict[str, Path], models: dict[str, Path], preset):
        self.preset, self.talkers, self.pointed = preset, {}, None
        super().__init__(clips, models)
        self.clip_box.set_value(next(iter(self.clips)))

    def open_clip(self, name: str) -> None:
        "Show another clip from its beginning."
        try: self.clip = open_choice(self.clips[name])
        except InputError as error: return self.ui.notify(str(error), type='negative')
        self.pointed, self.reply = first_thing(self.clip), None
        self.known = suggestions(self.clip)
        self.offers.clear(); self.answers.clear()
        with self.offers:
            for text in self.known: self.ui.chip(text, on_click=lambda text=text: self.question.set_value(text)).props('outline dense').classes('h-auto py-1 whitespace-normal')
        self.time.props(f'max={self.clip.frames_count - 1}').set_value(self.clip.frames_count - 1)
        self.show()

    def bring(self) -> None:
        "Open the clip folders a person names."
        try: found = clip_choices([Path(self.folder.value or '.')])
        except InputError as error: return self.ui.notify(str(error), type='negative')
        self.clips |= found
        self.clip_box.set_options(list(self.clips), value=next(iter(found)))

    def click(self, event) -> None:
        "Follow the point under the pointer; a click on the right picture means a pixel of the reference frame."
        frame = self.pointed.frame if event.sender is self.true and self.pointed else int(self.time.value)
        try: self.pointed = point_at(self.clip, frame, (event.image_x, event.image_y))
        except InputError as error: return self.ui.notify(str(error), type='warning')
        self.show()

    def show(self) -> None:
        "Draw everything for the moment of the slider."
        from track4d_ref.viz import INK, data_uri, figure_png, object_colors
        clip, frame, pointed = self.clip, int(self.time.value), self.pointed
        reference = pointed.frame if pointed else 0
        self.visual.set_source(frame_uri(clip.view.frames[frame]))
        self.true.set_source(frame_uri(clip.view.frames[reference], wash=0.3))
        self.true_words.text = f'True motion: the same point, seen by a camera that stays where it was in frame {reference}.'
        self.when.text = f'frame {frame}, {clip.times_s[frame] - clip.times_s[0]:.2f} s'
        self.plan.set_source(data_uri(figure_png(plan_figure(clip, frame, pointed, self.reply), 150)))
        if not pointed:
            self.visual.content = self.true.content = self.told.text = ''
            return
        color, moved_m = object_colors(clip).get(pointed.object_id, INK), np.diff(pointed.xyz_world_m, axis=0)
        for picture, uv_px in ((self.visual, pointed.visual_px), (self.true, pointed.true_px)):
            picture.content = track_svg(uv_px, pointed.seen, frame, clip.view.width, color)
        travelled_m = np.nansum(np.linalg.norm(moved_m, axis=1))
        self.told.text = f'{pointed.caption}: ' + (f'travels {travelled_m:.2f} m in the world' if travelled_m > 0.01 else 'stands still in the world')

    async def ask(self) -> None:
        "Put the question to the model; words and truth go into the list, a path into the view from above."
        from nicegui import run
        text, name = (self.question.value or '').strip(), self.model_box.value
        if not text or not name: return self.ui.notify('Write a question and choose a model.', type='warning')
        try: self.reply = await run.io_bound(self.answer, name, text)
        except InputError as error: return self.ui.notify(str(error), type='negative')
        if (target := named_object(self.clip, text)) is not None:
            self.pointed = point_at_object(self.clip, target, 0)            # from the start: that is where the two pictures differ most
        self.note(name, text)
        self.show()

    def answer(self, name: str, text: str) -> Reply:
        "The reply of a model, which is loaded when it is first asked."
        if name not in self.talkers: self.talkers[name] = load_talker(self.models[name], self.preset)
        return self.talkers[name](self.clip, text)

    def note(self, name: str, text: str) -> None:
        "Write question, answer and, where it is known, the truth on top of the list."
        with self.answers, self.ui.card().classes('w-full gap-0').tight().classes('p-3') as card:
            self.ui.label(text).classes('text-sm text-grey-7')
            self.ui.label(self.reply.text or '(no words)').classes('text-lg')
            path = f'; {len(self.reply.xyz_m)} places, drawn on the right' if len(self.reply.xyz_m) else '; no path of its own'
            truth = f' Truth: {self.known[text]}.' if text in self.known else ''
            self.ui.label(f'{name}{path}.{truth}').classes('text-xs text-grey-8')
        card.move(target_index=0)


# %%
assert {'open_clip', 'bring', 'click', 'show', 'ask'} <= set(vars(Screen))        # what a person can do

# %% [markdown]
# ## What a person sees
#
# Three pictures of the page, taken in a browser by `make test-browser` and kept in `docs/`. It opens with the object that travels
# furthest; the black car slides through the picture on the left and turns into the street on the right.

# %%
picture = lambda name: Image(filename=str(project_path(f'docs/{name}.png')))
picture('app_open')

# %% [markdown]
# A click on the parked orange car: the same slide on the left, a dot on the right, *stands still in the world* beside the slider.

# %%
picture('app_clicked')

# %% [markdown]
# Two questions, two answers. Below the answer to a question that the page suggests stands the truth, which geometry knows; a question
# in one's own words has none. The trajectory stands in the view from above.

# %%
picture('app_asked')

# %%
assert all(len(picture(name).data) < 150_000 for name in ('app_open', 'app_clicked', 'app_asked'))


# %% [markdown]
# ## The command
#
# It opens the page on this machine only. Models and clips of one's own are named by folders.

# %%
#| export
@app.command(name='app', epilog='Example: track4d app --model runs/model --clips runs/clips')
def open_app(model: Annotated[list[Path], typer.Option(help='checkpoint folder to add (repeatable)')] = [],
             clips: Annotated[list[Path], typer.Option(help='clip folder, or a folder of them (repeatable)')] = [],
             port: Annotated[int, typer.Option(min=1, max=65535, help='port on this machine')] = 8080,
             browser: Annotated[bool, typer.Option(help='open the page in a browser')] = True,
             preset: PresetOption = 'tiny', set_: SetOption = []) -> None:
    "Look at a clip in the browser, point at something, ask a model, see the trajectory."
    from track4d_ref.presets import load_preset
    choices, checkpoints, scale = clip_choices(clips), model_choices(model), load_preset(preset, tuple(set_))
    if not importlib.util.find_spec('nicegui'): raise InputError('track4d app needs NiceGUI; pip install "track4d_ref[app]"')
    from nicegui import ui
    typer.echo(f'The app: http://127.0.0.1:{port}  (stop it with Ctrl-C)')
    ui.run(lambda: Screen(choices, checkpoints, scale) and None, host='127.0.0.1', port=port, title='track4d', show=browser, reload=False,
           show_welcome_message=False, reconnect_timeout=60, favicon='🛰')   # a model may take long to load


# %%
told = [run_command('app', '--model', 'nowhere'), run_command('app', '--clips', 'nowhere'), run_command('app', '--port', '0')]
draw_terminal([('track4d app --model nowhere', *told[0]), ('track4d app --clips nowhere', *told[1])]); plt.show()
assert all(code == 2 for code, _ in told) and all('nowhere' in words for _, words in told[:2])

# %% [markdown]
# ## What we proved
#
# * One page shows both tracks of anything that is clicked, the trajectory over the ground, and what a model says.
# * A wrong folder ends in one sentence and exit code 2, before anything opens.
#
# ## Try it
#
# 1. Click on the car of the street, then drag the slider. In which frames is the end of the track hollow, and why?
# 2. Ask the same suggested question with two models. Which of the answers is nearer to the truth below it?
# 3. Add a button that follows all objects at once.
#
# <details><summary>Solutions</summary>
#
# 1. Where something nearer hides the point, or the picture has ended before it: `point_visibility` compares the point's depth with
#    the depth map of that frame. `pointed.seen` holds the answer frame by frame.
# 2. Start with `track4d app --model runs/tour/model` after `make demo`; both names appear in the list. One question decides
#    nothing: `track4d evaluate` asks hundreds and gives an interval.
# 3. In `Screen.talk`: `ui.button('All', on_click=self.all)`. In `all`, join `track_svg(...)` of
#    `point_at_object(self.clip, item.id, frame)` for every item that is present, each in the colour of `object_colors`.
#
# </details>
