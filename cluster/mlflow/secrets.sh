#!/bin/sh
# Make the passwords of the MLflow server, once, as files of mode 600 in cluster/mlflow/secrets (which git ignores).
set -eu
umask 077
folder=${SECRETS:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
for name in database_password admin_password session_key; do
    if [ ! -s "$folder/$name" ]; then
        openssl rand -hex 24 | tr -d '\n' > "$folder/$name"
    fi
    chmod 600 "$folder/$name"
done
echo "Secrets in $folder. MLflow's user is admin, its password in $folder/admin_password."
