# syntax=docker/dockerfile:1
# The daemon alone, not as root. State lives in one volume, /var/lib/forebay; the configuration is mounted:
#   docker build -t forebay .
#   docker run -v forebay:/var/lib/forebay -v ./forebay.toml:/etc/forebay/forebay.toml:ro -p 127.0.0.1:9187:9187 forebay
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
# The workspace needs its members to resolve; only the daemon is built.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package forebay --bin forebay \
    && install -m 0755 target/release/forebay /usr/local/bin/forebay

FROM debian:bookworm-slim
# The system's certificates, by which Kinesis and the database are verified.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 forebay \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin forebay \
    && install -d -m 0700 -o forebay -g forebay /var/lib/forebay
COPY --from=build /usr/local/bin/forebay /usr/local/bin/forebay
COPY LICENSE /usr/share/doc/forebay/LICENSE
USER 65532:65532
VOLUME /var/lib/forebay
# Inside a container, no probe and no Prometheus reaches loopback. This is a default: http.listen in the file wins.
ENV FOREBAY_DEFAULT_HTTP__LISTEN=0.0.0.0:9187
EXPOSE 9187
ENTRYPOINT ["forebay"]
CMD ["run", "--config", "/etc/forebay/forebay.toml"]
