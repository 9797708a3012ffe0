#!/usr/bin/env bash
# Usage: deploy/compose/try.sh [KEEP=1 in the environment leaves the stack running]
#
# Builds the images, brings the stack up from nothing, runs the demo's months in it, deploys the first champion, asks UI,
# MLflow and API, takes the stack down and up again, compares what is stored, and prints what it has shown.
# Needs podman with podman-compose 1.1 or newer (pip install podman-compose), or docker with its compose plugin.
# Everything it makes carries the name health-pipeline-try and is removed in the end, images excepted.
#
#   FIRST, LAST      months to run (2022-01, 2024-12: those of the demo); without 14 months no model is deployed
#   SKIP_BUILD=1     take the images as they are
#   POSTGRES_IMAGE   instead of the image built from deploy/compose/postgres
set -euo pipefail
cd "$(dirname "$0")/../.."

FIRST=${FIRST:-2022-01} LAST=${LAST:-2024-12}
if command -v podman >/dev/null && command -v podman-compose >/dev/null; then
  ENGINE=podman COMPOSE=(podman-compose) BUILD=(podman build --quiet --format docker) # OCI images lose HEALTHCHECK
elif docker compose version >/dev/null 2>&1; then
  ENGINE=docker COMPOSE=(docker compose) BUILD=(docker build --quiet)
else
  echo "error: neither podman with podman-compose nor docker with its compose plugin is here" >&2
  exit 2
fi

PROJECT=health-pipeline-try
SERVICES=(postgres mlflow code-location webserver daemon api)
WORK=$(mktemp -d)
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
export POSTGRES_IMAGE=${POSTGRES_IMAGE:-localhost/health-pipeline-postgres:15}
export DAGSTER_PORT=${DAGSTER_PORT:-13000} MLFLOW_PORT=${MLFLOW_PORT:-15000} API_PORT=${API_PORT:-18080}
export HEALTH_PIPELINE_AUTOMATION=false HEALTH_PIPELINE_START_MONTH=$FIRST HEALTH_PIPELINE_END_MONTH=$LAST
TOKEN=$(random)
printf '%s=%s\n' POSTGRES_PASSWORD "$(random)" PSEUDONYM_KEY "$(random)" API_TOKEN "$TOKEN" >"$WORK/env"

compose() { "${COMPOSE[@]}" --project-name "$PROJECT" --env-file "$WORK/env" "$@"; }
inside() { compose exec -T code-location "$@"; }
say() { printf '%5ds  %s\n' "$SECONDS" "$*"; }
fail() { echo "error: $*" >&2; exit 1; }
finish() {
  status=$?
  if [ "$status" -ne 0 ]; then
    "$ENGINE" ps --all --filter "name=$PROJECT" >&2 || true
    for service in "${SERVICES[@]}"; do
      echo "--- $service" >&2
      "$ENGINE" logs --tail 30 "$(container "$service")" >&2 2>&1 || true
    done
  fi
  if [ -n "${KEEP:-}" ]; then say "left running; secrets in $WORK/env"; else compose down --volumes >/dev/null 2>&1 || true; rm -rf "$WORK"; fi
  exit "$status"
}
trap finish EXIT
container() { "$ENGINE" ps --all --quiet --filter "name=^$PROJECT[-_]$1[-_]1\$"; }

# up: start everything; fails when a service has no running container.
up() {
  compose up --detach --no-build >"$WORK/up" 2>&1 || { cat "$WORK/up" >&2; exit 1; }
  for service in "${SERVICES[@]}"; do
    [ -n "$(container "$service")" ] || { cat "$WORK/up" >&2; fail "$service has no container"; }
  done
}
# answers WHAT URL SECONDS: until the URL gives a success
answers() {
  local end=$((SECONDS + $3))
  until curl --silent --fail --max-time 5 --output /dev/null "$2"; do
    [ "$SECONDS" -lt "$end" ] || fail "$1 does not answer at $2"
    sleep 1
  done
  say "$1 answers"
}
everything_answers() {
  answers "Dagster's UI" "http://127.0.0.1:$DAGSTER_PORT/server_info" 240
  answers "MLflow" "http://127.0.0.1:$MLFLOW_PORT/health" 240
  answers "the API" "http://127.0.0.1:$API_PORT/health/live" 120
  # Health checks are asked for, not waited for: not every engine runs them by itself.
  for service in "${SERVICES[@]}"; do healthy "$service" 240; done
  say "health checks pass: ${SERVICES[*]}"
}
healthy() {
  local end=$((SECONDS + $2)) id
  until id=$(container "$1") && case $ENGINE in
    podman) podman healthcheck run "$id" >/dev/null 2>&1 ;;
    docker) [ "$(docker inspect --format '{{.State.Health.Status}}' "$id")" = healthy ] ;;
  esac; do
    [ "$SECONDS" -lt "$end" ] || fail "the health check of $1 does not pass"
    sleep 2
  done
}
# hardened SERVICE: nothing can be written beside volumes and tmpfs; ours do not run as root.
hardened() {
  local id
  id=$(container "$1")
  [ "$("$ENGINE" inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$id")" = true ] || fail "$1 has a writable root file system"
  for folder in /usr /opt /etc /srv; do
    ! "$ENGINE" exec --user 0 "$id" touch "$folder/probe" 2>/dev/null || fail "$1 can write to $folder"
  done
  [ "$1" = postgres ] || [ "$("$ENGINE" exec "$id" id -u)" = 10001 ] || fail "$1 does not run as user 10001"
}
ask() { curl --silent --fail --max-time 60 --header 'Content-Type: application/json' --data "{\"query\": \"$1\"}" "http://127.0.0.1:$DAGSTER_PORT/graphql"; }
# predict: one prediction of the API, by the model in force
predict() {
  curl --silent --fail --max-time 10 --header "Authorization: Bearer $TOKEN" --header 'Content-Type: application/json' \
    --data '{"patient_id": "4711", "features": {"age_years": 71, "payer": "medicare"}}' "http://127.0.0.1:$API_PORT/v1/predict"
}
# What must outlive a restart: runs as the UI shows them; months, rows and champions of the warehouse; MLflow's models.
stored() {
  ask '{ runsOrError { ... on Runs { results { runId status } } } }'
  echo
  inside health-pipeline status --json
  curl --silent --fail "http://127.0.0.1:$MLFLOW_PORT/api/2.0/mlflow/registered-models/search"
}

if [ -z "${SKIP_BUILD:-}" ]; then
  [ "$POSTGRES_IMAGE" != localhost/health-pipeline-postgres:15 ] ||
    "${BUILD[@]}" --tag "$POSTGRES_IMAGE" deploy/compose/postgres >/dev/null
  "${BUILD[@]}" --target pipeline --tag localhost/health-pipeline:0.1.0 . >/dev/null
  "${BUILD[@]}" --target api --tag localhost/health-pipeline-api:0.1.0 . >/dev/null
  say "images are built"
fi
"$ENGINE" images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep '^localhost/health-pipeline' || true

up
say "containers are started"
everything_answers
for service in "${SERVICES[@]}"; do hardened "$service"; done
say "root file systems are read-only, our processes run as user 10001"

inside health-pipeline simulate
inside health-pipeline doctor
inside health-pipeline run
say "months $FIRST to $LAST are materialised"

ask '{ repositoriesOrError { ... on RepositoryConnection { nodes { name assetNodes { id } } } } }' >"$WORK/graph"
assets=$(grep -o '"id"' "$WORK/graph" | wc -l)
[ "$assets" -gt 20 ] || fail "the UI shows $assets assets"
say "the UI shows $assets assets"
[ "$(curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$API_PORT/v1/traffic")" = 401 ] ||
  fail "the API answers without its token"
say "the API refuses a request without its token"

initial=$(inside health-pipeline decisions --json --decision INITIAL | sed -n 's/.*"month": "\([0-9]*-[0-9]*\).*/\1/p' | head -n 1)
if [ -n "$initial" ]; then
  inside env HEALTH_PIPELINE_DEPLOYMENT__HEALTH_SECONDS=30 \
    health-pipeline run --select group:deployment --from "$initial" --to "$initial"
  answers "the deployed model of $initial" "http://127.0.0.1:$API_PORT/health/ready" 60
  predict >"$WORK/prediction"
  say "the API predicts: $(cat "$WORK/prediction")"
fi

stored >"$WORK/before"
compose down >/dev/null 2>&1
[ -z "$("$ENGINE" ps --quiet --filter "name=^$PROJECT")" ] || fail "containers still run after down"
say "the stack is down"
up
everything_answers
stored >"$WORK/after"
grep -q SUCCESS "$WORK/before" || fail "no run has succeeded"
diff "$WORK/before" "$WORK/after" || fail "what was stored has changed"
if [ -n "$initial" ]; then
  answers "the deployed model" "http://127.0.0.1:$API_PORT/health/ready" 60
  predict | diff - "$WORK/prediction" || fail "the API predicts something else"
fi
say "all is still there: $(grep -c '"table":' "$WORK/before") tables, $(grep -o SUCCESS "$WORK/before" | wc -l) runs${initial:+, the same prediction}"
