#!/usr/bin/env bash
# Usage: deploy/compose/try.sh [KEEP=1 in the environment leaves the stack running]
#
# Builds the images, brings the stack up from nothing, runs demo months in it, asks UI, MLflow and API, takes it down and
# up again and compares what is stored. Needs podman with podman-compose (pip install podman-compose), or docker with its
# compose plugin. Everything it makes carries the name health-pipeline-try and is removed in the end, images excepted.
#
#   FIRST, LAST      months to run           (2022-01, 2022-03)
#   SKIP_BUILD=1     take the images as they are
#   POSTGRES_IMAGE   instead of the image built from deploy/compose/postgres
set -euo pipefail
cd "$(dirname "$0")/../.."

FIRST=${FIRST:-2022-01} LAST=${LAST:-2022-03}
if command -v podman >/dev/null && command -v podman-compose >/dev/null; then
  ENGINE=podman COMPOSE=(podman-compose) BUILD=(podman build --quiet --format docker) # OCI images lose HEALTHCHECK
elif docker compose version >/dev/null 2>&1; then
  ENGINE=docker COMPOSE=(docker compose) BUILD=(docker build --quiet)
else
  echo "error: neither podman with podman-compose nor docker with its compose plugin is here" >&2
  exit 2
fi

WORK=$(mktemp -d)
secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
export POSTGRES_IMAGE=${POSTGRES_IMAGE:-localhost/health-pipeline-postgres:15}
export DAGSTER_PORT=${DAGSTER_PORT:-13000} MLFLOW_PORT=${MLFLOW_PORT:-15000} API_PORT=${API_PORT:-18080}
export HEALTH_PIPELINE_AUTOMATION=false HEALTH_PIPELINE_TRAINING__PROFILE=quick
export HEALTH_PIPELINE_END_MONTH=2024-12
printf '%s=%s\n' POSTGRES_PASSWORD "$(secret)" PSEUDONYM_KEY "$(secret)" API_TOKEN "$(secret)" >"$WORK/env"

compose() { "${COMPOSE[@]}" --project-name health-pipeline-try --env-file "$WORK/env" "$@"; }
inside() { compose exec -T code-location "$@"; }
say() { printf '%5ds  %s\n' "$SECONDS" "$*"; }
finish() {
  status=$?
  if [ "$status" -ne 0 ]; then compose logs --tail 40 >"$WORK/logs" 2>&1 || true; tail -n 200 "$WORK/logs" >&2; fi
  if [ -n "${KEEP:-}" ]; then say "left running; secrets in $WORK/env"; else compose down --volumes >/dev/null 2>&1 || true; rm -rf "$WORK"; fi
  exit "$status"
}
trap finish EXIT

# answers WHAT URL SECONDS: until the URL gives a success
answers() {
  local end=$((SECONDS + $3))
  until curl --silent --fail --max-time 5 --output /dev/null "$2"; do
    [ "$SECONDS" -lt "$end" ] || { echo "error: $1 does not answer at $2" >&2; exit 1; }
    sleep 1
  done
  say "$1 answers"
}
everything_answers() {
  answers "Dagster's UI" "http://127.0.0.1:$DAGSTER_PORT/server_info" 240
  answers "MLflow" "http://127.0.0.1:$MLFLOW_PORT/health" 240
  answers "the API" "http://127.0.0.1:$API_PORT/health/live" 120
}
ask() { curl --silent --fail --max-time 60 --header 'Content-Type: application/json' --data "{\"query\": \"$1\"}" "http://127.0.0.1:$DAGSTER_PORT/graphql"; }
# What must outlive a restart: runs as the UI shows them; months, rows and champions of the warehouse.
stored() {
  ask '{ runsOrError { ... on Runs { results { runId status } } } }'
  echo
  inside health-pipeline status --json
}

if [ -z "${SKIP_BUILD:-}" ]; then
  [ "$POSTGRES_IMAGE" != localhost/health-pipeline-postgres:15 ] ||
    "${BUILD[@]}" --tag "$POSTGRES_IMAGE" deploy/compose/postgres >/dev/null
  "${BUILD[@]}" --target pipeline --tag localhost/health-pipeline:0.1.0 . >/dev/null
  "${BUILD[@]}" --target api --tag localhost/health-pipeline-api:0.1.0 . >/dev/null
  say "images are built"
fi
"$ENGINE" images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep '^localhost/health-pipeline' || true

compose up --detach --no-build >"$WORK/up" 2>&1 || { cat "$WORK/up" >&2; exit 1; }
say "containers are started"
everything_answers

inside health-pipeline simulate --from "$FIRST" --to "$LAST"
inside health-pipeline run --from "$FIRST" --to "$LAST"
say "months $FIRST to $LAST are materialised"

ask '{ repositoriesOrError { ... on RepositoryConnection { nodes { name assetNodes { id } } } } }' >"$WORK/graph"
assets=$(grep -o '"id"' "$WORK/graph" | wc -l)
[ "$assets" -gt 20 ] || { echo "error: the UI shows $assets assets" >&2; exit 1; }
say "the UI shows $assets assets"
[ "$(curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$API_PORT/v1/traffic")" = 401 ] ||
  { echo "error: the API answers without its token" >&2; exit 1; }
say "the API refuses a request without its token"

stored >"$WORK/before"
compose down >/dev/null 2>&1
say "the stack is down"
compose up --detach --no-build >"$WORK/up" 2>&1 || { cat "$WORK/up" >&2; exit 1; }
everything_answers
stored >"$WORK/after"
grep -q SUCCESS "$WORK/before" || { echo "error: no run has succeeded" >&2; exit 1; }
diff "$WORK/before" "$WORK/after" || { echo "error: what was stored has changed" >&2; exit 1; }
say "all data is still there: $(grep -c '"table":' "$WORK/before") tables, $(grep -o SUCCESS "$WORK/before" | wc -l) runs"
