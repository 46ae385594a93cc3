# A small image with nothing but the program: no shell, not root.
#
#   docker build -t cloakroom .
#   docker run --rm -p 8080:8080 cloakroom serve --listen 0.0.0.0:8080 --upstream http://host:9000
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin cloakroom && mkdir /ledger

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/cloakroom /usr/local/bin/cloakroom
# Where a ledger in a file belongs: mount a volume here.
COPY --from=build --chown=nonroot:nonroot /ledger /ledger
WORKDIR /ledger
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["cloakroom", "health"]
ENTRYPOINT ["cloakroom"]
CMD ["--help"]
