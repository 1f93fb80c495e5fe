#!/bin/sh
# Builds the image from binaries built on this host, so that no registry is
# needed. Wants go and docker.
#
#   deploy/image.sh [TAG]         lookupd, as TAG (default: lookupd:dev)
#   deploy/image.sh --nsq [TAG]   nsqd and nsqadmin, as TAG (default: lookupd-nsq:dev)
set -eu
cd "$(dirname "$0")/.."

# begin CONTEXT: an empty build context with the directory for data.
begin() {
	rm -rf "$1"
	mkdir -p "$1/root/usr/local/bin" "$1/data"
	chmod 0700 "$1/data"
}

# link CONTEXT NAME TARGET: NAME at / and in the path leads to TARGET.
link() {
	[ "$2" = "$3" ] || ln -s "/$3" "$1/root/$2"
	ln -s "/$3" "$1/root/usr/local/bin/$2"
}

if [ "${1:-}" = --nsq ]; then
	context=bin/nsq-image tag=${2:-lookupd-nsq:dev} dockerfile=deploy/nsq.Dockerfile
	begin "$context"
	nsq=github.com/nsqio/nsq/apps
	(cd e2e && CGO_ENABLED=0 go build -trimpath -o "../$context/root/" "$nsq/nsqd" "$nsq/nsqadmin")
	link "$context" nsqd nsqd
	link "$context" nsqadmin nsqadmin
else
	context=bin/image tag=${1:-lookupd:dev} dockerfile=Dockerfile
	begin "$context"
	CGO_ENABLED=0 go build -tags hashicorpmetrics -trimpath -o "$context/root/" ./cmd/lookupd ./cmd/lookupctl
	link "$context" lookupd lookupd
	link "$context" lookupctl lookupctl
	link "$context" nsqlookupd lookupd
fi
# The classic builder pulls nothing for FROM scratch; BuildKit may want a frontend.
DOCKER_BUILDKIT=0 docker build --quiet --file "$dockerfile" --tag "$tag" "$context" >/dev/null
echo "built $tag"
