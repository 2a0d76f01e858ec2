# gliosight with its weights, to run without a network: see "In a container" in README.md.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE LICENSE-weights.md ./
COPY src src
RUN python -m venv /opt/gliosight
RUN /opt/gliosight/bin/pip install --no-cache-dir .
# Where the demo fails, no image is made.
RUN /opt/gliosight/bin/gliosight demo -o /tmp/demo -q

FROM python:3.11.13-slim-bookworm
LABEL org.opencontainers.image.title="gliosight" \
      org.opencontainers.image.description="Lower-grade glioma in brain MRI. Research use only." \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-NC-SA-4.0"
COPY --from=build /opt/gliosight /opt/gliosight
ENV PATH=/opt/gliosight/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
# Results without -o are written here: a folder of the host, or a volume, is mounted in its place. A new volume takes
# over the owner; without any, the demo can be tried.
WORKDIR /out
RUN chown 65532:65532 /out
# Any user will do: nothing is written outside the result folder. By number, so that Kubernetes can see it is not root.
USER 65532:65532
ENTRYPOINT ["gliosight"]
CMD ["--help"]
