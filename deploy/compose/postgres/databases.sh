#!/bin/sh
# Usage: databases.sh NAME...    waits for PostgreSQL (PGHOST, PGUSER, PGPASSWORD) and makes the databases that are missing
set -eu
tries=0
until pg_isready --quiet --timeout=2; do
  tries=$((tries + 1))
  [ "$tries" -lt 90 ] || { echo "error: PostgreSQL on $PGHOST does not answer" >&2; exit 1; }
  sleep 1
done
for name in "$@"; do
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set name="$name" <<'SQL'
SELECT format('CREATE DATABASE %I', :'name') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
SQL
done
