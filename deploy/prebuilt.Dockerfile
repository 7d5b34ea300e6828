# The image of the Dockerfile beside go.mod, made of what `make build` left in
# bin/, for engines that can pull no Go image. It lacks certificate authorities:
# TLS with a public one needs `ca:` in the configuration.
#
#   make build && docker build -f deploy/prebuilt.Dockerfile -t doubletap:dev .
FROM scratch
COPY bin/binlog-tailer bin/invalidator bin/replay /
USER 65532:65532
ENTRYPOINT ["/invalidator"]
