# The wheel and what it needs, by the hashes of requirements.lock.
#
#   docker build -t tfm_jax .
#   docker build -t tfm_jax --build-arg EXTRA=gpu .     for NVIDIA GPUs; tpu: Cloud TPUs
#   docker run --rm --user "$(id -u)" --volume "$PWD:/work" tfm_jax tfm-jax-study positions
#                                                       GPUs: docker run --gpus all ...

FROM python:3.11-slim AS wheel
WORKDIR /checkout
COPY . .
RUN python -m pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY requirements.lock .
RUN python -m pip install --no-cache-dir --require-hashes -r requirements.lock
COPY --from=wheel /wheels /wheels
ARG EXTRA=""
RUN python -m pip install --no-cache-dir "$(echo /wheels/*.whl)${EXTRA:+[$EXTRA]}"
# whoever runs it can write there, mounted or not
RUN mkdir --mode 1777 /work
WORKDIR /work
ENV HOME=/tmp
USER 1000
CMD ["tfm-jax", "--help"]
