# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS builder
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
COPY migrations migrations
COPY contracts/artifacts contracts/artifacts
RUN cargo build --locked --profile dist --bin backstop

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin backstop
COPY --from=builder /build/target/dist/backstop /usr/local/bin/backstop
USER 10001
EXPOSE 9464
# Alive, not ready: a container that waits for its endpoint must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["backstop", "health"]
ENTRYPOINT ["backstop"]
CMD ["run"]
