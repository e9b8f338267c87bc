# Rowcast in a container: `docker build -t rowcast .`
#
#   docker run -p 1883:1883 rowcast
#   docker run -p 1883:1883 -v ./rowcast.toml:/etc/rowcast/rowcast.toml:ro rowcast
#   docker run -p 1883:1883 -v ./mosquitto.conf:/mosquitto/config/mosquitto.conf:ro rowcast -c /mosquitto/config/mosquitto.conf
#
# The account has Mosquitto's number, 1883, and its folders are there, so volumes made for a Mosquitto can be used.

FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv python3-dev gcc libc6-dev
COPY . /src
RUN python3 -m venv /opt/rowcast && /opt/rowcast/bin/pip install --no-cache-dir --disable-pip-version-check /src

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends python3 ca-certificates && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 1883 rowcast && useradd --uid 1883 --gid 1883 --no-create-home --home-dir /var/lib/rowcast --shell /usr/sbin/nologin rowcast
RUN install -d -o 1883 -g 1883 /var/lib/rowcast /mosquitto /mosquitto/config /mosquitto/data /mosquitto/log && install -d /etc/rowcast
COPY --from=build /opt/rowcast /opt/rowcast
COPY packaging/container/rowcast.toml /etc/rowcast/rowcast.toml
ENV PATH=/opt/rowcast/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 1883:1883
WORKDIR /var/lib/rowcast
EXPOSE 1883 9001 6789
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["rowcast", "ctl", "--url", "http://127.0.0.1:6789", "health"]
ENTRYPOINT ["rowcast"]
CMD ["-c", "/etc/rowcast/rowcast.toml"]
