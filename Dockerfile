# The commands as static binaries, in an image that holds nothing but them, the
# certificate authorities, and a folder for a volume. GO_IMAGE may be any image with Go, a shell and
# those. Where none can be pulled: deploy/prebuilt.Dockerfile.
ARG GO_IMAGE=golang:1.26

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/binlog-tailer ./cmd/invalidator ./cmd/replay

FROM scratch AS folders
WORKDIR /folders/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/binlog-tailer /out/invalidator /out/replay /
# A volume gets its first owner from here: log.embedded.dir, the state of replay.
COPY --from=folders --chown=65532:65532 /folders/ /
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["/invalidator"]
