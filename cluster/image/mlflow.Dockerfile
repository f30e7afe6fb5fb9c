# MLflow's tracking server with what a site of several people needs: PostgreSQL for the records, S3 for the artifacts.
#
#   docker build -f cluster/image/mlflow.Dockerfile -t syncnet-mlflow:3.17.2 .
#
# The server passes artifacts on (`--artifacts-destination`), so that clients need no credentials of the storage.

FROM python:3.11.14-slim-bookworm
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --disable-pip-version-check -c /tmp/constraints.txt mlflow psycopg2-binary boto3==1.44.8 \
    && rm /tmp/constraints.txt \
    && useradd --uid 1000 --create-home mlflow
ENV MLFLOW_DISABLE_TELEMETRY=true \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /home/mlflow
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]
