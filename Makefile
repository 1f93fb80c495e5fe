# Targets need Go and git alone, but for race: gcc; generate: protoc; image and up: Docker.

TAGS    := hashicorpmetrics
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      := go
# The libraries' metrics reach lookupd's registry only with this tag.
GOFLAGS_TAGS := -tags $(TAGS)
GOFUMPT     := $(GO) run mvdan.cc/gofumpt@v0.12.0
STATICCHECK := $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GENERATED   := \.pb\.go$$|\.pb\.txt$$
# The bugs of package seeded.
SEEDED      := 1 2 3 4 5 6 7 8 9 10 11 12 13
# Without a package list go test shows what was printed: the tests that this
# machine cannot run, and why. LOOKUPD_FAULTS=require makes those fail.
# Packages of the root module with such tests, so they run without a list too.
MAY_SKIP := cmd/lookupctl peer supervisor/lab
SPACE    := $(subst ,, )
E2E := cd e2e && $(GO) test -timeout 30m $(GOFLAGS_TAGS)
DEPLOY := cd deploy && $(GO) test $(GOFLAGS_TAGS)

.PHONY: all build run dev test check format vet lint race arrows e2e proof proof-long bench seeded fuzz generate image dist up down clean help

all: build

help:
	@grep '^## ' Makefile | cut -c4-

## build: lookupd and lookupctl into ./bin
build:
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_TAGS) -trimpath -o bin/ ./cmd/lookupd ./cmd/lookupctl

## run: one peer that serves, with its data in ./lookupd-data
run: build
	./bin/lookupd

## dev: three peers on this machine, with nsqd and nsqadmin if they are on PATH
dev: build
	./bin/lookupctl dev

## test: the tests, those with real nsqd, nsqadmin and nsqlookupd included
test:
	$(GO) test $(GOFLAGS_TAGS) $$($(GO) list $(GOFLAGS_TAGS) ./... | grep -vE '/($(subst $(SPACE),|,$(MAY_SKIP)))$$')
	@skips=$$(mktemp); for dir in $(MAY_SKIP); do (cd $$dir && $(GO) test $(GOFLAGS_TAGS)) >$$skips.out 2>&1; code=$$?; \
	  cat $$skips.out; grep '^SKIPPED' $$skips.out >>$$skips; [ $$code -eq 0 ] || exit $$code; done; \
	  echo "$$(wc -l <$$skips) tests of these SKIPPED"; rm -f $$skips $$skips.out
	cd proof && $(GO) test $(GOFLAGS_TAGS) . ./check ./ledger ./round
	cd bench && $(GO) test $(GOFLAGS_TAGS) ./...
	$(DEPLOY)
	$(E2E)

## proof: try to break every promise, about 17 minutes; needs root, loop devices and strace for all of it
proof:
	cd proof && $(GO) run $(GOFLAGS_TAGS) . ci $(PROOF)

## proof-long: an hour and a half of mixed rounds, and what else goes into the ledger
proof-long:
	cd proof && $(GO) build $(GOFLAGS_TAGS) -o ../bin/proof . && ../bin/proof mixed -for 95m -ledger && \
	  ../bin/proof powercuts -n 200 -ledger && ../bin/proof corruption -n 300 -ledger && ../bin/proof disks -ledger && ../bin/proof paused -n 500 -ledger && \
	  ../bin/proof docker -ledger && ../bin/proof bugs -ledger && ../bin/proof report

## bench: measure lookupd beside nsqlookupd and etcd, about 35 minutes on a machine that does nothing else
bench:
	cd bench && $(GO) build $(GOFLAGS_TAGS) -o ../bin/bench . && ../bin/bench -json ../bin/bench.json $(BENCH)

## check: what must be clean before a push
check: format vet lint arrows race

format:
	@files=$$($(GOFUMPT) -l $$(git ls-files -co --exclude-standard '*.go' | grep -vE '$(GENERATED)')); \
	if [ -n "$$files" ]; then echo "not gofumpt-ed:"; echo "$$files"; exit 1; fi

vet:
	$(GO) vet $(GOFLAGS_TAGS) ./...
	$(GO) vet $(GOFLAGS_TAGS),witness ./witness ./fsm ./tcpproto ./cmd/lookupd
	$(GO) vet $(GOFLAGS_TAGS),slow_apply ./cmd/lookupd
	cd proof && $(GO) vet $(GOFLAGS_TAGS) ./...
	cd e2e && $(GO) vet $(GOFLAGS_TAGS) ./...
	cd bench && $(GO) vet $(GOFLAGS_TAGS) ./...
	cd deploy && $(GO) vet $(GOFLAGS_TAGS) ./...

lint:
	$(STATICCHECK) $(GOFLAGS_TAGS) ./...
	cd proof && $(STATICCHECK) $(GOFLAGS_TAGS) ./...
	cd e2e && $(STATICCHECK) $(GOFLAGS_TAGS) ./...
	cd bench && $(STATICCHECK) $(GOFLAGS_TAGS) ./...
	cd deploy && $(STATICCHECK) $(GOFLAGS_TAGS) ./...

## arrows: imports go one way
arrows:
	$(GO) test $(GOFLAGS_TAGS) -count=1 -run TestImports .

# One package at a time: several clusters with the race detector on two cores
# make each other miss their deadlines.
race:
	$(GO) test -race -p 1 $(GOFLAGS_TAGS) ./...

## e2e: only the tests with real programs
e2e:
	$(E2E)

## seeded: lookupd with each of the planted bugs, which the proof must catch, into ./bin/seeded
seeded:
	@for n in $(SEEDED); do \
	  $(GO) vet -tags $(TAGS),seeded_s$$n ./seeded ./store ./fsm ./cluster ./session ./cmd/lookupd && \
	  CGO_ENABLED=0 $(GO) build -tags $(TAGS),seeded_s$$n -trimpath -o bin/seeded/lookupd-s$$n ./cmd/lookupd || exit 1; \
	done

## fuzz: each fuzz target for FUZZTIME, 10s by default
fuzz:
	./.ci/fuzz $(FUZZTIME)

## generate: the protobuf code; needs protoc
generate:
	$(GO) generate ./...

## image: the container image, from binaries built here; pulls nothing
image:
	./deploy/image.sh

## dist: tar.gz and .deb for linux/amd64 and arm64, with SHA256SUMS, into ./dist
dist:
	./deploy/dist.sh

## up: three peers in containers        down: stop them, keep their data
up: image
	docker-compose up -d

down:
	docker-compose down

clean:
	rm -rf bin dist
