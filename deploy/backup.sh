#!/bin/sh
# Back up a deployment whose databases are PostgreSQL's: sh deploy/backup.sh FOLDER
# It may run at any time.  FOLDER must not exist; it appears whole or not at all.
#   VROOM_*           as the services have them
#   PGHOST, PGUSER... the server of the databases mlflow and prefect, as for pg_dump
#   MLFLOW_ARTIFACTS  MLflow's folder of artifacts
set -eu
umask 077
folder=${1:?the folder to make} artifacts=${MLFLOW_ARTIFACTS:?the folder of the artifacts}
folder=${folder%/}
if [ -e "$folder" ]; then echo "$folder exists already; give another name" >&2; exit 1; fi
partial="$folder.partial"
rm -rf "$partial"
mkdir -p "$partial"
python -m vroom_features backup --to "$partial/vroom.backup"
for database in mlflow prefect; do
  pg_dump --format=custom --no-owner --no-privileges --file "$partial/$database.dump" --dbname "$database"
  pg_restore --list "$partial/$database.dump" >/dev/null
done
tar -C "$artifacts" -cf "$partial/artifacts.tar" . # after the database, which names only artifacts that exist
mv "$partial" "$folder"
