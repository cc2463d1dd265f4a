# The image: one static binary, the certificate authorities, nothing else.
#
#   docker build -t logchute .
#
# Both base images are arguments, for mirrors and offline hosts. Where there is no base image at
# all, the stage `ready` takes the finished root file system as its context, and needs none; how
# to make that is in docs/DEPLOY.md:
#
#   docker build -t logchute -f Dockerfile --target ready ROOT
#
# The classic builder makes all stages up to the one asked for, so `ready` stands before `build`.
# There it costs a copy of the context in the default build; BuildKit leaves it out.

ARG BUILD_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=scratch

# What the image says of itself; its files come below.
FROM ${RUNTIME_IMAGE} AS runtime
# As Logspout's: port 80 on every address. --http, HTTP_BIND_ADDRESS, PORT and HTTP_PORT win.
ENV HTTP_BIND_ADDRESS=0.0.0.0 HTTP_PORT=80
EXPOSE 80
VOLUME /mnt/routes
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/bin/logchute", "health"]
ENTRYPOINT ["/bin/logchute"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="logchute" \
      org.opencontainers.image.description="Log router for Docker hosts" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS ready
COPY . /

FROM ${BUILD_IMAGE} AS build
ARG CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /src
COPY . .
# Linked statically against glibc, which must be 2.34 or newer: it resolves names from /etc/hosts
# and by DNS without loading libraries. Function names stay in the binary, for backtraces.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
 && RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=debuginfo \
    cargo build --release --locked --bin logchute --target "$target" \
 && mkdir -p /image/bin /image/etc/ssl/certs \
 && cp "target/$target/release/logchute" /image/bin/ \
 && ln -s logchute /image/bin/wget \
 && cp "$CA_BUNDLE" /image/etc/ssl/certs/ca-certificates.crt \
 && cp LICENSE /image/

FROM runtime
COPY --from=build /image/ /
