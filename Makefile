.PHONY: setup
UV ?= uv
setup: .venv/.stamp
.venv/.stamp: pyproject.toml uv.lock
	$(UV) sync --all-extras
	touch $@
