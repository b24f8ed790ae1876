# The only list of commands: `make help` prints it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run fit test lint deny chart unit contract contract-fuzz fuzz browser-test bench soak docs weights weights-coco cluster image deploy e2e cluster-down libtorch clean requirements

# The one place that holds the version is Cargo.toml; `make chart` compares the chart's.
VERSION = $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$$/\1/p' Cargo.toml)
# In the registry of `make cluster`, which the chart's values name too.
REPOSITORY = localhost:5001/ssd
IMAGE = $(REPOSITORY):$(VERSION)
# Of the image that was pushed last: of a tag that it has already, a node would not see a new build.
DIGEST = $$(docker image inspect --format '{{join .RepoDigests "\n"}}' $(IMAGE) | sed -n 's|^$(REPOSITORY)@||p')

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

run: libtorch ## Serve the model on http://127.0.0.1:5000 (the playground; API documentation at /docs)
	cargo run --locked --release --bin ssd

OUT = mine.safetensors
fit: libtorch ## Teach a detector your own objects: make fit DATA=pictures/ (OUT=mine.safetensors, OPTIONS=--help)
	cargo run --locked --release --bin ssd-train -- fit $(DATA) --output $(OUT) $(OPTIONS)

test: lint chart unit contract ## Lint, check the chart, run every test

unit: libtorch ## Run the tests of the programs and scripts
	weights/download_test.sh
	weights/mobilenet/convert_test.sh
	cargo test --locked --workspace

browser-test: libtorch ## Use the playground in a headless Chromium, which must be installed
	ci/browser.sh

lint: libtorch ## Formatting, clippy, rustdoc, shellcheck and yamllint, warnings refused
	ci/lint.sh
	cargo fmt --all --check
	cargo fmt --manifest-path server/fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

deny: ## Check the crates' licences, sources, versions and advisories (needs the internet)
	ci/tools.sh cargo-deny
	.tools/bin/cargo-deny check

chart: ## Lint, render, validate and unit-test the chart; needs no cluster
	ci/chart.sh

contract: libtorch ## Check the OpenAPI document and the programs of docs/clients.md against a server
	ci/contract.sh lint generated clients

contract-fuzz: libtorch ## Make 2,000 requests from the OpenAPI document, and compare the answers with it
	ci/contract.sh fuzz

fuzz: libtorch ## Fuzz what reads bytes from outside, each target for twenty minutes (SECONDS_EACH)
	ci/fuzz.sh

bench: libtorch ## Measure each stage, and the server against a plain one: writes docs/benchmarks.md
	cargo bench --locked
	ci/benchmarks.sh

soak: libtorch ## Keep a server busy for twenty minutes, and tell whether it wears out
	ci/soak.sh

docs: libtorch ## Write what is generated: README.md's settings and answer, server/openapi.json, docs/clients.md
	ci/docs.sh

weights: ## Download the published VOC weights into weights/ (105 MB; goes on where it stopped)
	weights/download.sh voc

weights-coco: ## Download torchvision's COCO weights into weights/ (136 MB)
	weights/download.sh coco

cluster: ## Make a two-node Kubernetes cluster (kind) and a registry on localhost:5001
	ci/cluster.sh up

image: ## Build the server's image and push it to that registry
	DOCKER_BUILDKIT=1 docker build --file server/Dockerfile --tag $(IMAGE) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
		$(if $(PUBLISHED),--build-arg PUBLISHED=$(PUBLISHED)) .
	docker push $(IMAGE)

deploy: ## Install or upgrade the chart in that cluster, and wait until it serves
	ci/tools.sh helm
	digest=$(DIGEST) && [ -n "$$digest" ] || { echo "no image to deploy: make cluster image" >&2; exit 1; }; \
	.tools/bin/helm upgrade --install ssd charts/ssd --kube-context kind-ssd --wait --timeout 5m --set "image.digest=$$digest"

# Its values expect the answers of the model that ships, whatever lies in weights/.
e2e: PUBLISHED = ssd_mobilenet_v2_oidv4.safetensors
e2e: cluster image ## Prove the chart on that cluster: every installation, and what happens to a running one
	ci/e2e.sh $(DIGEST)

cluster-down: ## Remove that cluster and its registry
	ci/cluster.sh down

libtorch: requirements ## Fetch libtorch into .libtorch (once; verified)
	@ci/libtorch.sh

requirements:
	@ci/requirements.sh

clean: ## Remove what was built (libtorch stays)
	cargo clean
