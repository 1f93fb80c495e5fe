# nsqd and nsqadmin for docker-compose.yml's profile nsq where nsqio/nsq cannot be
# pulled: ./deploy/image.sh --nsq builds it from the Go module.
FROM scratch

COPY root/ /
COPY --chown=65532:65532 data/ /data/

USER 65532:65532
WORKDIR /data
EXPOSE 4150 4151 4171
CMD ["/nsqd"]
