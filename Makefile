# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv and installs what is missing.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= runs/tour

.PHONY: demo app test test-browser docs notebooks twins export check-clean clean

$(VENV)/.runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,lora,stereo]"
	touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime        ## the main job: video in, 4D questions out, a model trained on them, a report at the end
	$(BIN)/track4d tour --out $(DEMO)

app: $(VENV)/.runtime         ## look at a clip in the browser, point at something, ask
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[app]"
	$(BIN)/track4d app

test: $(VENV)/.dev            ## everything CI runs: unit tests, project rules, every notebook
	$(BIN)/python -m pytest tests

test-browser: $(VENV)/.dev    ## JupyterLab and the app in a headless Chromium; pictures in runs/browser
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[app,browser]"
	test -n "$$TRACK4D_BROWSER" || command -v chromium >/dev/null || apt-get install -y -qq chromium || \
	  { echo 'install Chromium, or name a browser: TRACK4D_BROWSER=/path/to/chrome make test-browser'; exit 1; }
	$(BIN)/python -m pytest -n 0 tests/test_browser.py -rs

docs: $(VENV)/.dev            ## the site: notebooks as saved, API pages; a broken link between pages stops the build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python tools/build_docs.py

notebooks: $(VENV)/.dev       ## run every notebook from top to bottom
	$(BIN)/nbdev-test --n-workers 0

export: $(VENV)/.dev          ## notebooks -> package and text twins
	$(BIN)/nbdev-clean
	env -u IN_TEST $(BIN)/nbdev-export
	$(MAKE) twins

twins: $(VENV)/.dev           ## nbs/*.ipynb -> nbs_text/*.py
	for notebook in nbs/*.ipynb; do \
	  $(BIN)/jupytext --quiet --to py:percent --opt notebook_metadata_filter=-all --opt cell_metadata_filter=-all \
	    -o nbs_text/$$(basename $$notebook .ipynb).py $$notebook || exit 1; done

check-clean: export           ## fails if a notebook, module or twin is out of step with what is committed
	test -z "$$(git status --porcelain)"

clean:
	rm -rf $(VENV) runs
