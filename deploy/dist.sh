#!/bin/sh
# Makes what is published: tar.gz and .deb for linux/amd64 and arm64, with
# SHA256SUMS, in dist/. Wants go, git, tar, gzip and sha256sum. The same commit and
# the same Go give the same bytes.
set -eu
cd "$(dirname "$0")/.."
NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0

rm -rf dist
mkdir -p dist/work/host dist/work/man dist/work/completions
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# build ARCH DIR; without ARCH for this machine.
build() {
	GOOS=${1:+linux} GOARCH=$1 CGO_ENABLED=0 go build -tags hashicorpmetrics -trimpath -o "$2/" ./cmd/lookupd ./cmd/lookupctl
}

build "" dist/work/host
VERSION=$(dist/work/host/lookupd -version | sed 's/^lookupd v\([^ ]*\) .*/\1/')
export VERSION
for shell in bash zsh fish; do
	dist/work/host/lookupctl completion $shell >dist/work/completions/lookupctl.$shell
done
dist/work/host/lookupctl man dist/work/man
gzip -n9 dist/work/man/*

for ARCH in amd64 arm64; do
	export ARCH
	name=lookupd-$VERSION-linux-$ARCH
	tree=dist/work/$name
	mkdir -p "$tree"
	build "$ARCH" "$tree/bin"
	cp -r dist/work/completions dist/work/man docs README.md CHANGELOG.md "$tree"
	cp -r deploy/systemd deploy/prometheus deploy/grafana deploy/kubernetes "$tree"
	chmod -R u=rwX,go=rX "$tree"
	tar -C dist/work --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "$name" |
		gzip -n9 >"dist/$name.tar.gz"
	go run $NFPM package --config deploy/deb/nfpm.yaml --packager deb --target "dist/lookupd_${VERSION}_$ARCH.deb"
done
rm -rf dist/work
cd dist
sha256sum -- *.tar.gz *.deb >SHA256SUMS
cat SHA256SUMS
