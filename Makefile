.PHONY: check test golden bench matrix docs

check:  ## lint, format, types, import rules
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:  ## everything that pytest finds
	pytest

golden:  ## rewrite the expected graphs of the passes' tests; review the diff like code
	pytest tests/passes --update-golden

bench:  ## the tables of the README; MODELS is a folder for exports (about 15 GB)
	python benchmarks/minilm.py $(or $(MODELS),/tmp/burnish-bench)
	python benchmarks/simplify.py $(or $(MODELS),/tmp/burnish-bench)
	python benchmarks/decoder.py $(or $(MODELS),/tmp/burnish-bench)

matrix:  ## recovered and expected, by architecture and exporter; MODELS is a folder for exports
	python tests/matrix/runner.py $(or $(MODELS),/tmp/burnish-matrix) --jobs 2 --table docs/matrix.md

docs:  ## pages of the passes, from their docstrings
	python docs/generate.py
