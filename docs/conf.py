"How the site looks: notebooks as they were saved, one API page per module, links checked."
project = 'track4d_ref'
copyright = 'the track4d_ref authors, Apache-2.0'
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.mathjax']
html_theme = 'furo'
html_title = 'track4d_ref'
html_show_sphinx = False
html_static_path, html_css_files = ['look'], ['wide.css']
html_theme_options = dict(light_css_variables={'color-brand-primary': '#0072B2', 'color-brand-content': '#0072B2'},
                          dark_css_variables={'color-brand-primary': '#56B4E9', 'color-brand-content': '#56B4E9'})

nb_execution_mode = 'off'                       # the saved outputs are the ones that were checked
nb_merge_streams = True
nb_mime_priority_overrides = [('html', 'application/vnd.jupyter.widget-view+json', None)]    # no kernel here: the saved picture instead
nb_ipywidgets_js = {}                           # and no script for live ones
myst_enable_extensions = ['dollarmath', 'amsmath']
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_mock_imports = ['cv2', 'skimage', 'mujoco', 'peft', 'bitsandbytes']
suppress_warnings = ['misc.highlighting_failure', 'mystnb.unknown_mime_type', 'myst.header', 'docutils']
