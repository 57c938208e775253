# poolwatch as a container image. No engine is needed to check this file: .ci/container.sh carries out its steps in a
# clean Debian.
#
# How it is meant to run: as a sidecar that shares the application's network namespace (a second container of the pod, or
# `--network container:APP`). It listens on loopback there, which the application reaches and nobody else does. Who
# asks clients for a proof (docs/authentication.md) may listen on other addresses: POOLWATCH_LISTEN__ADDRESS=0.0.0.0:6432.
#
#   docker build -t poolwatch --build-arg REVISION=$(git rev-parse HEAD) --build-arg CREATED=$(git log -1 --format=%cI) .
#   docker run --network container:app -e POOLWATCH_UPSTREAM__URL=postgresql://app:secret@db/app poolwatch

FROM rust:1-bookworm AS builder
WORKDIR /src
# The dependencies alone, against an empty program: this layer is made anew only when the manifest or the lock file change.
COPY Cargo.toml Cargo.lock ./
# The manifest names the benches, and cargo wants to see what it names.
COPY benches ./benches
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
 && cargo build --release --locked --no-default-features \
 && rm -r src
COPY src ./src
# Sources copied in may be older than what was just built from the empty ones. Without default features: an image has no
# use for the demo's download of PostgreSQL. Line tables are two thirds of the program; names in a backtrace stay.
RUN find src -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --no-default-features \
 && strip --strip-debug -o poolwatch target/release/poolwatch

FROM debian:bookworm-slim
# The certificates are what sslmode=verify-full without sslrootcert trusts.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10432 --no-create-home --shell /usr/sbin/nologin poolwatch
COPY --from=builder /src/poolwatch /usr/local/bin/poolwatch
# Of the sources, not of the build: the time is the commit's, so that the same commit has the same labels.
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="poolwatch" org.opencontainers.image.description="A connection pool for PostgreSQL that shows, truly, how it is doing" org.opencontainers.image.version="0.1.0" org.opencontainers.image.licenses="MIT OR Apache-2.0" org.opencontainers.image.revision="$REVISION" org.opencontainers.image.created="$CREATED" org.opencontainers.image.base.name="debian:bookworm-slim"
USER 10432:10432
# PostgreSQL's protocol, as PgBouncer has it; metrics, health and the JSON API.
EXPOSE 6432 9432
# Stops accepting, lets transactions end, answers the last scrape.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/poolwatch", "health"]
ENTRYPOINT ["/usr/local/bin/poolwatch"]
CMD ["serve"]
