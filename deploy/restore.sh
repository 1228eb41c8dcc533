#!/bin/sh
# Restore what backup.sh made: sh deploy/restore.sh FOLDER [--force]
# Stop the web app, the worker, MLflow and Prefect first; their databases exist, empty or not.
# Variables as for backup.sh.  --force loses changes that the backup lacks.
set -eu
umask 077
folder=${1:?the folder that backup.sh made} artifacts=${MLFLOW_ARTIFACTS:?the folder of the artifacts}
shift
python -m vroom_features restore --from "$folder/vroom.backup" "$@" # first, because it refuses to lose changes
mkdir -p "$artifacts"
tar -C "$artifacts" -xf "$folder/artifacts.tar"
for database in mlflow prefect; do
  pg_restore --clean --if-exists --single-transaction --no-owner --dbname "$database" "$folder/$database.dump"
done
python -m vroom_features materialize # makes the offline store again, and fills Redis
