.PHONY: help test libtorch clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12
libtorch: ## fetch libtorch into .libtorch (once; verified)
	ci/libtorch.sh
test: libtorch ## run every test
	cargo test --locked --workspace
clean: ## remove what was built (libtorch stays)
	cargo clean
