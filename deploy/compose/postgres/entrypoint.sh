#!/bin/sh
# Makes the cluster on the first start and runs /docker-entrypoint-initdb.d/*.sql, as the official image does; passwords
# are asked for from everywhere but the container's own socket. Arguments go to the server.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD:?}"
  secret=$(mktemp)
  printf '%s\n' "$POSTGRES_PASSWORD" >"$secret"
  # Made beside and moved when whole: a first start that was cut off begins again.
  rm -rf "$PGDATA.new"
  initdb --pgdata="$PGDATA.new" --username="$POSTGRES_USER" --pwfile="$secret" --encoding=UTF8 --locale=C.UTF-8 \
    --auth-local=trust --auth-host=scram-sha-256 >/dev/null
  rm -f "$secret"
  echo "host all all all scram-sha-256" >>"$PGDATA.new/pg_hba.conf"
  pg_ctl --pgdata="$PGDATA.new" --wait --silent --options="-c listen_addresses=''" start
  for script in /docker-entrypoint-initdb.d/*.sql; do
    [ ! -e "$script" ] ||
      psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres --file="$script"
  done
  pg_ctl --pgdata="$PGDATA.new" --wait --silent --mode=fast stop
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
