# walden's tasks. `make help` lists them; each installs what it needs.

SHELL := /bin/sh
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REPO ?= file
FUZZTIME ?= 30s
BENCH ?= .
TIMEOUT ?= 25m
CRASHES ?= 200

CACHE := .cache
TOOLS := testdata/tools
PKG ?= ./... ./$(TOOLS)/testreport
GOFILES = $(shell find . -name '*.go' -not -path './$(CACHE)/*')
SCRIPTS = .ci/run $(shell find . -name '*.sh' -not -path './$(CACHE)/*')

# No version control data beside the version: the same sources give the same bytes, anywhere.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

.DEFAULT_GOAL := build
.PHONY: help build setup test crash lint demo bench fuzz cover clean distclean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the static binary ./walden
	$(BUILD) -o walden .

setup: ## install what the tests need into .cache (as root on Debian and Ubuntu, packages as well)
	@$(TOOLS)/setup.sh test

test: setup ## all tests, with the race detector; PKG=./codec/... for some
	@CGO_ENABLED=1 WALDEN_TEST_STRICT=1 go test -race -count=1 -timeout $(TIMEOUT) -json $(PKG) \
		| go run ./$(TOOLS)/testreport

crash: setup ## kill -9 each operation at CRASHES random moments, on a directory and on S3
	WALDEN_TEST_STRICT=1 WALDEN_TEST_CRASHES=$(CRASHES) go test -count=1 -v -timeout 6h -run '^TestCrash' ./internal/story

lint: ## format, vet, staticcheck, go.mod, the import rule, shell scripts
	@$(TOOLS)/setup.sh lint
	@unformatted=$$(gofmt -l $(GOFILES)); if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	go vet $(PKG)
	$(CACHE)/bin/staticcheck $(PKG)
	go mod tidy -diff
	go test -count=1 -run '^TestImport' .
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); else echo 'no shellcheck here: scripts not checked'; fi

demo: build ## back up, destroy and restore a real cluster; REPO=s3 for an S3 server instead of a directory
	@$(TOOLS)/setup.sh demo-$(REPO)
	@REPO=$(REPO) WALDEN=$(CURDIR)/walden testdata/demo/demo.sh

bench: setup ## benchmarks; BENCH=pattern, PKG=./codec/... for some
	go test -run '^$$' -bench '$(BENCH)' -benchmem -timeout $(TIMEOUT) $(PKG)

fuzz: ## every fuzz target for FUZZTIME each
	@$(TOOLS)/fuzz.sh $(FUZZTIME) $(PKG)

cover: setup ## test coverage: a summary, and .cache/cover.html
	go test -timeout $(TIMEOUT) -coverpkg=./... -coverprofile=$(CACHE)/cover.out $(PKG)
	@go tool cover -html=$(CACHE)/cover.out -o $(CACHE)/cover.html
	@go tool cover -func=$(CACHE)/cover.out | tail -n 1

clean: ## remove what build makes
	rm -rf walden dist

distclean: clean ## remove the installed tools, too
	rm -rf $(CACHE)
