.PHONY: check test golden bench matrix docs site compare

check:  ## lint, format, types, import rules
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:  ## everything that pytest finds
	pytest

golden:  ## rewrite the expected graphs of the passes' tests; review the diff like code
	pytest tests/passes --update-golden

bench:  ## the tables of docs/facts.md; MODELS is a folder for exports (about 15 GB)
	python benchmarks/minilm.py $(or $(MODELS),/tmp/burnish-bench)
	python benchmarks/simplify.py $(or $(MODELS),/tmp/burnish-bench)
	python benchmarks/decoder.py $(or $(MODELS),/tmp/burnish-bench)

matrix:  ## recovered and expected, by architecture and exporter; MODELS is a folder for exports
	python tests/matrix/runner.py $(or $(MODELS),/tmp/burnish-matrix) --jobs 2 --table docs/matrix.md

docs:  ## the pages that are made from the code: passes, options, Python
	python docs/generate.py

site:  ## the documentation as a site, in build/site; needs the extra [docs]
	mkdocs build --strict

compare:  ## docs/comparison.md's table; MODELS is a folder for exports and environments (about 6 GB)
	python benchmarks/comparison/compare.py $(or $(MODELS),/tmp/burnish-compare)
