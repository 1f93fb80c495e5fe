# The image of lookupd. It takes binaries that were built on the host and pulls
# nothing: ./deploy/image.sh (or make image) prepares bin/image and builds it.
FROM scratch

COPY root/ /
# What the daemon writes belongs to its user; a volume takes the owner from here.
COPY --chown=65532:65532 data/ /data/

ENV PATH=/usr/local/bin LOOKUPD_DATA_PATH=/data
USER 65532:65532
VOLUME /data
# V1, HTTP, peers, gossip
EXPOSE 4160 4161 4162 4163 4163/udp

# Whether this peer itself serves, not how the cluster is: to restart it mends the former alone.
HEALTHCHECK --interval=5s --timeout=6s --start-period=15s --retries=3 CMD ["/lookupctl", "check", "--local", "--quiet"]

# No ENTRYPOINT: as with NSQ's image, the command names the program.
CMD ["/lookupd"]
