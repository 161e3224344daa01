#!/bin/bash
# Start MLflow on PostgreSQL with accounts. Passwords are read from files and passed by environment: a command line can
# be read by every user of the machine.
#   SECRETS (folder of secrets.sh)  DATABASE_HOST  ARTIFACTS (folder or s3://...)  BIND (127.0.0.1)  PORT (5000)
#   ACCOUNTS (ini file; the one beside this script)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
secrets=${SECRETS:-$here/secrets}
bind=${BIND:-127.0.0.1}

password=$(cat "$secrets/database_password")
MLFLOW_AUTH_ADMIN_PASSWORD=$(cat "$secrets/admin_password")
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$secrets/session_key")
MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://mlflow:$password@${DATABASE_HOST:-127.0.0.1}:${DATABASE_PORT:-5432}/mlflow"
export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_BACKEND_STORE_URI
export MLFLOW_AUTH_CONFIG_PATH=${ACCOUNTS:-$here/accounts.ini}
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

exec mlflow server --app-name basic-auth --host "$bind" --port "${PORT:-5000}" --workers "${WORKERS:-2}" \
    --artifacts-destination "${ARTIFACTS:?a folder or an s3:// address for artifacts}"
