# Two stages: the commands are built as static binaries, and the last stage
# holds nothing but them and the certificate authorities.
#
# GO_IMAGE may be any image with Go; where none can be pulled, build the
# binaries with `make build` and take the target "prebuilt", which copies bin/.
ARG GO_IMAGE=golang:1.26

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/binlog-tailer ./cmd/invalidator

FROM scratch AS prebuilt
COPY bin/binlog-tailer bin/invalidator /
USER 65532:65532
ENTRYPOINT ["/invalidator"]

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/binlog-tailer /out/invalidator /
USER 65532:65532
ENTRYPOINT ["/invalidator"]
