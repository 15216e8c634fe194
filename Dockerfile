FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 TOLLGATE_HOST=0.0.0.0 TOLLGATE_DATA_DIR=/data
WORKDIR /srv/tollgate
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY app ./app
COPY migrations ./migrations
RUN pip install --no-cache-dir --no-deps . \
    && useradd --system --uid 10001 --no-create-home tollgate \
    && install -d -o tollgate /data
USER 10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["tollgate"]
CMD ["serve"]
