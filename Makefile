# The list of all commands: `make help` prints it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run fit test lint deny chart unit arm64 contract contract-fuzz fuzz browser-test bench soak docs weights weights-coco weights-coco-ssd300 cluster image deploy e2e cluster-down libtorch clean requirements

# The version is in Cargo.toml; `make chart` compares the chart's with it.
VERSION = $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$$/\1/p' Cargo.toml)
# The registry of `make cluster`, which is also in the chart's values.
REPOSITORY = localhost:5001/ssd
IMAGE = $(REPOSITORY):$(VERSION)
# The digest of the image that was pushed last. A node that has the tag already would not pull a new build of it.
DIGEST = $$(docker image inspect --format '{{join .RepoDigests "\n"}}' $(IMAGE) | sed -n 's|^$(REPOSITORY)@||p')

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: libtorch ## Serve the model on http://127.0.0.1:5000 (the playground; API documentation at /docs)
	cargo run --locked --release --bin ssd

OUT = mine.safetensors
fit: libtorch ## Train a detector on your own objects: make fit DATA=pictures/ (OUT=mine.safetensors, OPTIONS=--help)
	cargo run --locked --release --bin ssd-train -- fit $(DATA) --output $(OUT) $(OPTIONS)

test: lint chart unit contract ## Lint, check the chart and the OpenAPI document, run the tests of the programs and scripts

unit: libtorch ## Run the tests of the programs and scripts
	weights/download_test.sh
	weights/mobilenet/convert_test.sh
	cargo test --locked --workspace

arm64: ## Build for Linux on arm64, and run it: under emulation on x86-64
	ci/arm64.sh

browser-test: libtorch ## Test the playground in a headless Chromium, which must be installed
	ci/browser.sh

lint: libtorch ## Check formatting, clippy, rustdoc, shellcheck and yamllint; warnings fail
	ci/lint.sh
	cargo fmt --all --check
	cargo fmt --manifest-path server/fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

deny: ## Check the crates' licences, sources, versions and advisories (needs the internet)
	ci/tools.sh cargo-deny
	.tools/bin/cargo-deny check

chart: ## Lint, render, validate and unit-test the chart, without a cluster
	ci/chart.sh

contract: libtorch ## Check the OpenAPI document, the programs of docs/clients.md and other protocols against a server
	ci/contract.sh lint generated clients protocols

contract-fuzz: libtorch ## Generate 2,000 requests from the OpenAPI document, and compare the responses with it
	ci/contract.sh fuzz

fuzz: libtorch ## Fuzz the readers of weights files, labels and pictures, twenty minutes each (SECONDS_EACH)
	ci/fuzz.sh

bench: libtorch ## Measure each stage, and compare the server with Flask: writes docs/benchmarks.md
	cargo bench --locked
	ci/benchmarks.sh

soak: libtorch ## Load a server for twenty minutes, and look for leaks
	ci/soak.sh

docs: libtorch ## Write generated text: README.md's settings and response, server/openapi.json, docs/clients.md
	ci/docs.sh

weights: ## Download the published VOC weights into weights/ (105 MB; resumes a download)
	weights/download.sh voc

weights-coco: ## Download torchvision's SSDLite320, 80 classes of COCO, into weights/ (13 MB)
	weights/download.sh coco

weights-coco-ssd300: ## Download torchvision's SSD300, 80 classes of COCO, into weights/ (136 MB)
	weights/download.sh coco-ssd300

cluster: ## Create a two-node Kubernetes cluster (kind) and a registry on localhost:5001
	ci/cluster.sh up

image: ## Build the server's image and push it to the registry on localhost:5001
	DOCKER_BUILDKIT=1 docker build --file server/Dockerfile --tag $(IMAGE) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
		$(if $(PUBLISHED),--build-arg PUBLISHED=$(PUBLISHED)) .
	docker push $(IMAGE)

deploy: ## Install or upgrade the chart in the kind cluster, and wait until a pod is ready
	ci/tools.sh helm
	digest=$(DIGEST) && [ -n "$$digest" ] || { echo "there is no image to deploy: run make cluster image" >&2; exit 1; }; \
	.tools/bin/helm upgrade --install ssd charts/ssd --kube-context kind-ssd --wait --timeout 5m --set "image.digest=$$digest"

# The tests expect the model that ships, even if weights/ has others.
e2e: PUBLISHED = ssd_mobilenet_v2_oidv4.safetensors
e2e: cluster image ## Test the chart on the kind cluster: each installation, changes and faults
	ci/e2e.sh $(DIGEST)

cluster-down: ## Remove the kind cluster and its registry
	ci/cluster.sh down

libtorch: requirements ## Download libtorch into .libtorch (once; verified)
	@ci/libtorch.sh

requirements:
	@ci/requirements.sh

clean: ## Remove build output (libtorch stays)
	cargo clean
