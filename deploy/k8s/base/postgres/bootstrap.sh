#!/bin/sh
# Runs service.sql for each service. $PASSWORDS is a directory with a file per login role and one for the superuser.
set -eu
cd "$(dirname "$0")"
PGPASSWORD=$(cat "$PASSWORDS/superuser")
export PGPASSWORD

until pg_isready --quiet; do
    echo "bootstrap: waiting for PostgreSQL at $PGHOST"
    sleep 2
done
for service in ingest rating billing payments; do
    for login in owner api worker; do
        # By the environment, where other processes do not see it; the file may end in a newline.
        export "${login}_password=$(cat "$PASSWORDS/${service}_${login}")"
    done
    psql --no-psqlrc --quiet --dbname=postgres --set=ON_ERROR_STOP=1 --set=service="$service" --file=service.sql
    echo "bootstrap: $service has its database and logins"
done
