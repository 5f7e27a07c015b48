# One image for all parts of a cluster: dagtrain with the dashboard, the digits, pictures and certificates. docker-compose.yml uses it.
#
#   docker build --tag dagtrain:local .
#   docker build --tag dagtrain:local --build-arg WHEELS=wheels .    # packages from the folder wheels/, without an index
#
# The folder is filled on a machine that has an index, with the image's version of Python:
#
#   pip download --dest wheels --python-version 3.11 --only-binary :all: ".[run,certs]" "hatchling>=1.26"

FROM python:3.11-slim-bookworm AS build
ARG WHEELS=""
COPY . /source
# In a stage of its own, so that neither the sources nor the wheels stay in the image.
RUN python -m venv /opt/dagtrain \
    && /opt/dagtrain/bin/pip install --no-cache-dir --disable-pip-version-check \
    ${WHEELS:+--no-index --find-links "/source/$WHEELS"} "/source[run,certs]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/dagtrain /opt/dagtrain
ENV PATH=/opt/dagtrain/bin:$PATH PYTHONUNBUFFERED=1
# A volume takes its owner from the folder on which it is first mounted.
RUN useradd --create-home --uid 1000 dagtrain \
    && install --directory --owner dagtrain --mode 700 /certificates
USER dagtrain
WORKDIR /home/dagtrain
CMD ["dagtrain", "--help"]
