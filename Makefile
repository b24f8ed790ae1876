# The only list of commands: `make help` prints it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test lint chart bench docs weights weights-coco demo-model libtorch clean requirements

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

run: libtorch ## Serve the model on http://127.0.0.1:5000 (API documentation at /docs)
	cargo run --locked --release --bin ssd

test: lint chart ## Lint, check the chart, run every test
	weights/download_test.sh
	cargo test --locked --workspace

lint: libtorch ## Formatting, clippy, rustdoc, shellcheck and yamllint, warnings refused
	ci/lint.sh
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

chart: ## Lint, render, validate and unit-test the chart; needs no cluster
	ci/chart.sh

bench: libtorch ## Measure the server's own share of a request
	cargo bench --locked

docs: libtorch ## Write what is generated: README.md's settings and answer, server/openapi.json
	ci/docs.sh

weights: ## Download the published VOC weights into weights/ (105 MB; goes on where it stopped)
	weights/download.sh voc

weights-coco: ## Download torchvision's COCO weights into weights/ (136 MB)
	weights/download.sh coco

demo-model: libtorch ## Train the demo model again (about an hour on two cores)
	weights/train/demo.sh

libtorch: requirements ## Fetch libtorch into .libtorch (once; verified)
	@ci/libtorch.sh

requirements:
	@ci/requirements.sh

clean: ## Remove what was built (libtorch stays)
	cargo clean
