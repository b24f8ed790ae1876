.PHONY: help test lint libtorch clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12
libtorch: ## fetch libtorch into .libtorch (once; verified)
	ci/libtorch.sh
test: lint ## lint, then run every test
	cargo test --locked --workspace
lint: libtorch ## formatting, clippy and rustdoc, warnings refused
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
clean: ## remove what was built (libtorch stays)
	cargo clean
