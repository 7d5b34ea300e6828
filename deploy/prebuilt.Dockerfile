# The image of the Dockerfile beside go.mod, made of what `make build` left in
# bin/, for engines that can pull no Go image. It lacks certificate authorities:
# TLS with a public one needs `ca:` in the configuration.
#
#   make build && docker build -f deploy/prebuilt.Dockerfile -t doubletap:dev .
FROM scratch AS folders
WORKDIR /folders/data

FROM scratch
COPY bin/binlog-tailer bin/invalidator bin/replay /
COPY --from=folders --chown=65532:65532 /folders/ /
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["/invalidator"]
