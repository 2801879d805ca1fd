# The server and the command, on a CPU or on an NVIDIA GPU (start with --gpus all): PyTorch's wheel has both.
#
#   docker build -t monai-sam .
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD:/data" -u "$(id -u):$(id -g)" monai-sam segment /data/ct.nii.gz --box ... -o /data/out
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD/studies:/data" -u "$(id -u):$(id -g)" --network host monai-sam serve /data
#
# For a machine without a GPU, an image that is 4 GB smaller; INDEX is PyTorch's index for CPUs, see its page of installation:
#   docker build -t monai-sam:cpu --build-arg REQUIREMENTS=requirements-cpu.txt --build-arg PIP_EXTRA_INDEX_URL=INDEX .
FROM python:3.11-slim

ARG REQUIREMENTS=requirements.txt
ARG PIP_EXTRA_INDEX_URL
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/monai-sam
COPY requirements*.txt ./
RUN pip install --no-cache-dir --no-deps -r "$REQUIREMENTS"
COPY pyproject.toml setup.py README.md LICENSE NOTICE ./
COPY docs/data_license.txt docs/
COPY configs configs
COPY models/*.safetensors models/
COPY bundle bundle
COPY monailabel_app monailabel_app
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && useradd --create-home --uid 1000 sam

# Nothing is written outside of /tmp and the folders that are mounted, so that the root may be read-only. Families with an
# image encoder keep up to 8 GiB of prepared slices in /tmp/monai-sam/prepared, which --tmpfs takes of the memory: mount a
# folder there, or serve with --conf prepared off. USER, because MONAI asks for the name of a user whom -u has given no name.
ENV HOME=/tmp USER=sam MPLCONFIGDIR=/tmp/matplotlib MONAI_SAM_HOME=/tmp/monai-sam MONAI_LABEL_SESSION_PATH=/tmp/sessions \
    OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE=1
USER 1000
WORKDIR /data
ENTRYPOINT ["monai-sam"]
CMD ["--help"]
