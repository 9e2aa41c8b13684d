# syntax=docker/dockerfile:1
# All programs in one image, which is nothing but them: no shell, no package manager, a user without
# rights. `docker run IMAGE document-service` runs one; without a name it is the one-process `dms`.

FROM rust:1.95.0-bookworm AS tools
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /src

# What the dependencies are: changes only when they do, so the layer of compiled dependencies is kept.
FROM tools AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM tools AS build
ARG PACKAGES="-p dms -p document-service -p signature-service -p search-service -p websocket-service -p event-processor"
COPY --from=plan /src/recipe.json recipe.json
# hadolint ignore=SC2086
RUN cargo chef cook --locked --profile dist $PACKAGES --features dms/engines --recipe-path recipe.json
COPY . .
# hadolint ignore=SC2086
RUN cargo build --locked --profile dist $PACKAGES --features dms/engines
WORKDIR /src/target/dist
RUN /src/deploy/images/rootfs.sh /rootfs dms document-service signature-service search-service \
    websocket-service event-processor

FROM scratch
COPY --from=build /rootfs /
ENV PATH=/usr/local/bin DMS_DATA_DIR=/data
USER 65532:65532
WORKDIR /data
CMD ["dms"]
